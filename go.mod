module github.com/rdmanet/iwarp

go 1.25.0
