module github.com/rdmanet/iwarp/debug/pcapng

go 1.25.0

replace github.com/rdmanet/iwarp => ../..

require (
	github.com/gopacket/gopacket v1.7.7
	github.com/rdmanet/iwarp v0.1.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/pkg/errors v0.9.1 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.57.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
