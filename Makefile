# Short names for what .ci/run and the go command do. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help demo test race lint fuzz bench ratios suites kernel peers ci

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a file over HTTP: iWARP, then plain TCP, from one port
	go run -C examples ./fileserver

test: ## all tests of the library and of the examples
	go test ./... && go test -C examples ./...

race: ## the same with the race detector
	.ci/run race

lint: ## format, vet, staticcheck, tidy modules, other systems
	.ci/run format vet staticcheck tidy cross

fuzz: ## each fuzz target for 10 s (IWARP_CI_FUZZTIME=1m for more)
	.ci/run fuzz

bench: ## go benchmarks of the library against plain TCP
	go test ./benchmarks -run '^$$' -bench .

ratios: ## the README's table of costs: interleaved with plain TCP, 8 minutes
	go run -C benchmarks/report .

suites: ## the tests of net/http, crypto/tls, grpc-go and others over this module, 10 minutes
	go test ./test/suites -suites -timeout 60m

kernel: ## the suite with real peers in a virtual machine (Debian 12, root), 10 minutes
	go test ./test/kernel -kernel

peers: ## all of that suite, half an hour; writes test/kernel/RESULTS.md
	go test ./test/kernel -kernel -full -timeout 60m -results RESULTS.md

ci: ## all that is checked before a change lands, 20 minutes
	.ci/run
