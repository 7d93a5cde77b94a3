// Package blobpb is generated from blob.proto.
package blobpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative blob.proto
