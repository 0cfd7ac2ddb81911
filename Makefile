# dstack: `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0
# grpcnotrace and disable_grpc_modules keep out packages that stop the linker
# from removing dead code; nomsgpack halves what gin brings in.
TAGS    := grpcnotrace,disable_grpc_modules,nomsgpack
GOBUILD := go build -trimpath -buildvcs=false -tags $(TAGS) -ldflags '-s -w'
# The agent lies in every job, so it is small: no HTTP/2, which it never speaks,
# and inlining only where it counts.
AGENTBUILD := go build -trimpath -buildvcs=false -tags $(TAGS),nethttpomithttp2 -ldflags '-s -w' -gcflags=all=-l \
	$(foreach p,dstack golang.org/x/crypto github.com/pkg runtime internal crypto/internal,-gcflags=$(p)/...=)
SOURCES := $(shell find . -name '*.go' -not -name '*_test.go' -not -path './test/*' 2>/dev/null) go.mod go.sum
PAYLOAD := controller/hosts/payload
SIM_SEEDS ?= 10000
CLOUD_SCHEDULES ?= 20
SEEDS ?= 10000
DOCKER ?= docker
IMAGE ?= dstack-server
ARCHS ?= $(shell go env GOARCH)
VERSION = $(shell sed -n 's/^\tVersion = "\(.*\)"$$/\1/p' protocol/version/version.go)

.PHONY: help build images clients demo test unit race fuzz lint e2e e2e-cloud cloudlab e2e-litestream e2e-logs e2e-docker takeover contract config-compare wire gpu parts sim chaos chaos-cloud long cycles bench-attach bench-latency bench-footprint bench-ssh bench-api bench-offers api-compare schemathesis interop clean

help: ## list every target
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

build: bin/dstack bin/dstack-shim bin/dstack-agent ## build dstack, dstack-shim and dstack-agent into bin/

bin/dstack-shim-linux-% bin/dstack-agent-linux-%: $(SOURCES)
	GOOS=linux GOARCH=$* $(GOBUILD) -o bin/dstack-shim-linux-$* ./cmd/dstack-shim
	GOOS=linux GOARCH=$* $(AGENTBUILD) -o bin/dstack-agent-linux-$* ./cmd/dstack-agent

$(PAYLOAD)/digests: bin/dstack-shim-linux-amd64 bin/dstack-shim-linux-arm64
	go run ./controller/hosts/pack $(PAYLOAD) bin/dstack-shim-linux-amd64 bin/dstack-agent-linux-amd64 bin/dstack-shim-linux-arm64 bin/dstack-agent-linux-arm64

bin/dstack: $(PAYLOAD)/digests $(SOURCES)
	$(GOBUILD) -o $@ ./cmd/dstack

bin/dstack-shim: bin/dstack-shim-linux-amd64
	cp bin/dstack-shim-linux-$$(go env GOARCH) $@
bin/dstack-agent: bin/dstack-shim-linux-amd64
	cp bin/dstack-agent-linux-$$(go env GOARCH) $@

bin/dstack-linux-%: bin/dstack
	if [ "$$(go env GOOS)/$$(go env GOARCH)" = linux/$* ]; then cp $< $@; else GOOS=linux GOARCH=$* $(GOBUILD) -o $@ ./cmd/dstack; fi

bin/dstack-image.tar: $(wildcard deploy/imageroot/*.go) go.mod
	@mkdir -p bin
	go run ./deploy/imageroot $@

images: $(foreach a,$(ARCHS),bin/dstack-linux-$(a)) bin/dstack-image.tar ## the server's image, IMAGE (dstack-server) for each of ARCHS (this machine's)
	for arch in $(ARCHS); do \
		$(DOCKER) build --platform linux/$$arch -f Dockerfile.server --build-arg ARCH=$$arch --build-arg VERSION=$(VERSION) -t $(IMAGE):$(VERSION)-$$arch .; \
	done
	$(DOCKER) tag $(IMAGE):$(VERSION)-$(firstword $(ARCHS)) $(IMAGE):latest

clients: $(PAYLOAD)/digests ## the command line for macOS and Windows into bin/
	for os in darwin windows; do for arch in amd64 arm64; do \
		GOOS=$$os GOARCH=$$arch $(GOBUILD) -o bin/dstack-$$os-$$arch$$(GOOS=$$os go env GOEXE) ./cmd/dstack; \
	done; done

demo: build ## start a server, take this machine as a host, run examples/hello.dstack.yml
	test/demo/demo.sh

test: ## run all tests at CI size, installing what they need (root, Debian)
	test/ci/test.sh

unit: ## unit tests with the race detector
	CGO_ENABLED=1 SIM_SEEDS=10 go test -race -timeout 20m ./... # sim and chaos-cloud run more seeds

race: unit

fuzz: ## every fuzz target for FUZZTIME (default 30s)
	test/ci/fuzz.sh $${FUZZTIME:-30s}

lint: ## go vet and golangci-lint
	test/ci/lint.sh

CASES ?= protocol/config/testdata/cases.jsonl
config-compare: ## configurations of CASES=FILE: same verdict and normalised form as 0.22.5
	go run ./test/configcompare $(CASES)

wire: ## decode every answer with the models of the Python client 0.22.5
	go test -tags e2e -count=1 -timeout 10m ./test/wire/...

# The real 0.22.5 server; test/ci/python.sh makes it.
REAL ?= /var/cache/dstack-lab/server-0.22.5
CALLS ?= -all test/apicompare/calls/quiet test/apicompare/calls/live

api-compare: build ## the same calls to the real 0.22.5 server and to ours, answers compared; CALLS=FILE takes other calls
	test/ci/python.sh
	go run ./test/apicompare -real $(REAL)/bin/dstack $(CALLS)

e2e: build ## end to end on lab machines (real sshd, systemd, Docker Engine), and bad input
	go test -tags e2e -count=1 -timeout 30m -v ./test/e2e/... ./test/badinput/... ./test/cycles/...

e2e-litestream: build ## the database and archives in object storages: crashes, outages, two servers; LITESTREAM_S3_ROUNDS (2), LITESTREAM_ROUNDS (1)
	test/ci/python.sh
	test/ci/storages.sh
	go test -tags e2e -count=1 -timeout 40m -parallel 12 -v ./test/litestream/... ./test/archives/... ./controller/objects ./controller/archives

e2e-docker: build bin/dstack-linux-$(shell go env GOARCH) bin/dstack-image.tar ## the server's image on a fresh Docker Engine, as the page of the image says
	test/ci/python.sh
	go test -tags e2e -count=1 -timeout 10m -parallel 3 -v ./test/e2edocker/...

takeover: build ## our server in the folder of a real one of 0.22.5, which the Python client sees unchanged
	test/ci/python.sh
	go test -tags e2e -count=1 -timeout 10m -v ./test/takeover/...

e2e-logs: build ## logs copied to storages: outages, crashes, retention
	test/ci/python.sh
	test/ci/storages.sh
	go test -tags e2e -count=1 -timeout 10m -v ./test/logship/...

contract: ## what every driver of a cloud has to do: aws against moto
	test/ci/python.sh
	go test -tags e2e -count=1 -timeout 5m ./controller/backends/aws/...

e2e-cloud: build ## machines from a cloud: moto with lab machines behind it
	test/ci/python.sh
	go test -tags e2e -count=1 -timeout 20m -v ./test/e2ecloud/...

cloudlab: ## a cloud for a person to try: prints a config.yml and stays until Ctrl-C
	test/ci/setup.sh
	go build -tags e2e -o bin/cloudlab ./test/cloudlab/try
	@trap 'kill -INT $$pid; wait $$pid' INT; setsid bin/cloudlab & pid=$$!; wait $$pid # its engine must not get the Ctrl-C, too

gpu: build ## a job with PyTorch on this machine's NVIDIA GPU; GPU_RUNTIME (process), GPU_SSH=1, GPU_PYTHON (python3), GPU_IMAGE, GPU_VOLUMES
	go test -tags e2e -count=1 -timeout 15m -v ./test/gpu/...

parts: build ## shim, host link and agent alone, with a real Docker Engine, sshd and PID namespace
	GPU_CYCLES=$${GPU_CYCLES:-1000} go test -tags e2e -count=1 -p 1 -timeout 20m ./shim ./shim/volumes ./controller/hosts ./agent

sim: ## the engine's simulator over SIM_SEEDS seeds (default 10000)
	GOGC=400 SIM_SEEDS=$(SIM_SEEDS) go test -count=1 -timeout 30m -run 'TestSim' ./controller/engine/...

chaos: build ## at least 100 cuts of server, shim, agent, dockerd and host in one run
	CHAOS_CUTS=$${CHAOS_CUTS:-100} go test -tags e2e -count=1 -timeout 120m -v ./test/chaos/...

chaos-cloud: build ## the engine's simulator with clouds over SEEDS seeds (default 10000), and CLOUD_SCHEDULES (20) schedules of faults in the cloud lab
	GOGC=400 SIM_SEEDS=$(SEEDS) go test -count=1 -timeout 60m -v -run 'TestCloud(Simulator|EveryMoment)' ./controller/engine/...
	(($(CLOUD_SCHEDULES) == 0)) || CLOUD_SCHEDULES=$(CLOUD_SCHEDULES) go test -tags e2e -count=1 -timeout 90m -v -run TestSchedules ./test/e2ecloud/...

long: ## what is too long for CI: parts, full chaos, 20 min of the API document, 20 min of fuzzing in all
	$(MAKE) parts
	$(MAKE) sim SIM_SEEDS=10000
	$(MAKE) chaos
	$(MAKE) chaos-cloud
	$(MAKE) cycles
	GPU_ENGINE_CYCLES=1000 go test -tags e2e -count=1 -timeout 40m -v -run TestE2EGPUs ./shim
	SSH_MB=1024 DSTACK_TEST_CP_MIB=1024 go test -tags e2e -count=1 -timeout 20m -v -run 'TestSSH|TestTools' ./test/e2e/...
	E2E_LONG=1 go test -tags e2e -count=1 -timeout 30m -v -run 'TestFaults|TestKill' ./test/e2ecloud/...
	E2E_LONG=1 go test -tags e2e -count=1 -timeout 30m -v -run 'TestUtilizationPolicy|TestAgentImage|TestMultinodeLong' ./test/e2e/...
	LITESTREAM_S3_ROUNDS=30 LITESTREAM_ROUNDS=5 LITESTREAM_OUTAGE_SECONDS=120 $(MAKE) e2e-litestream
	$(MAKE) bin/dstack-linux-amd64 bin/dstack-linux-arm64
	E2E_LONG=1 $(MAKE) e2e-docker
	$(MAKE) schemathesis SCHEMATHESIS_TIME=20m
	$(MAKE) fuzz FUZZTIME=35s # 70 targets, two at a time: 20 minutes in all

cycles: build ## attach and detach ATTACH_CYCLES times (default 10000), a third cut by SIGKILL
	ATTACH_CYCLES=$${ATTACH_CYCLES:-10000} go test -tags e2e -count=1 -timeout 60m -v ./test/cycles/...

bench-attach: build ## from attach to a shell prompt, ours and the real 0.22.5 client
	test/ci/python.sh
	go test -tags e2e -count=1 -timeout 20m -v -run TestAttach ./test/bench/...

bench-latency: build ## from apply to running, first log line and done, beside the engine's own time
	go test -tags e2e -count=1 -timeout 30m -v -run TestLatency ./test/bench/...

bench-footprint: build ## start-up time, memory and binary sizes
	go test -tags e2e -count=1 -timeout 20m -v -run TestFootprint ./test/bench/...

bench-ssh: build ## copies over the agent's SSH server and over OpenSSH's in the same container; SSH_MB (256)
	test/ci/setup.sh
	go test -tags e2e -count=1 -timeout 30m -v -run 'TestSSH$$' ./test/bench/...

bench-offers: build ## plans and `dstack offer` with the whole table of aws
	test/ci/setup.sh
	go test -tags e2e -count=1 -timeout 10m -v -run TestOffers ./test/bench/...

bench-api: build ## the real 0.22.5 server and ours under the same load
	test/ci/setup.sh
	go test -tags e2e -count=1 -timeout 60m -v -run TestAPI ./test/bench/...

schemathesis: build ## our OpenAPI document is valid, and no answer lies outside it; SCHEMATHESIS_TIME (2m) in all, SCHEMATHESIS_SEED (any)
	test/ci/python.sh
	SCHEMATHESIS_TIME=$${SCHEMATHESIS_TIME:-2m} go test -tags e2e -count=1 -timeout 60m ./test/openapi/...

interop: build ## the unchanged Python client 0.22.5, command line and SDK, on a lab host
	test/ci/python.sh
	go test -tags e2e -count=1 -timeout 30m ./test/interop/...

clean: ## remove what was built
	rm -rf bin
	find $(PAYLOAD) -type f ! -name .gitignore -delete
