#!/usr/bin/env bash
# go vet, a build for other systems, golangci-lint and the rule about marks.
# The linter is built from tools/go.mod, so that its dependencies never reach
# ours.
set -euo pipefail
cd "$(dirname "$0")/../.."
go vet ./...
go vet -tags e2e ./...
# The command line for other systems; its tests need Linux. `make clients`
# builds it for their other processors, too.
for system in windows/amd64 darwin/arm64; do
	GOOS=${system%/*} GOARCH=${system#*/} go build -o /dev/null ./cmd/dstack
done
(cd tools && go build -o ../.cache/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint)
.cache/golangci-lint run ./...
