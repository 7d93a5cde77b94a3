module github.com/rdmanet/iwarp/examples

go 1.25.0

require (
	github.com/rdmanet/iwarp v0.1.0
	github.com/stretchr/testify v1.12.1
	google.golang.org/grpc v1.84.0
	google.golang.org/protobuf v1.36.12
)

require go.uber.org/goleak v1.3.0 // indirect

require (
	github.com/ebitengine/purego v0.11.3 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/rdmanet/iwarp/grpc v0.1.0
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.57.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.40.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
)

replace github.com/rdmanet/iwarp => ../

replace github.com/rdmanet/iwarp/grpc => ../grpc
