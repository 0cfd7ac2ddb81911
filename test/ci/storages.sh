#!/usr/bin/env bash
# Makes the storages that replicas and logs are tested with, below
# /var/cache/dstack-lab: S3 of moto is one of python.sh's. Prints nothing when
# all is there.
set -euo pipefail
home=/var/cache/dstack-lab
gcs=v1.56.1
azurite=3.37.0
fluent=1.0.10 # of the fluent organisation: a server of the forward protocol

if [[ ! -x $home/fake-gcs-server-$gcs/fake-gcs-server ]]; then
	mkdir -p "$home/fake-gcs-server-$gcs"
	GOFLAGS=-mod=mod CGO_ENABLED=0 GOBIN=$home/fake-gcs-server-$gcs go install "github.com/fsouza/fake-gcs-server@$gcs"
fi
if ! command -v npm >/dev/null; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
fi
if [[ ! -f $home/azurite-$azurite/complete ]]; then
	mkdir -p "$home/azurite-$azurite"
	npm install --silent --no-fund --no-audit --prefix "$home/azurite-$azurite" "azurite@$azurite"
	touch "$home/azurite-$azurite/complete"
fi
if [[ ! -d $home/fluent-$fluent/node_modules/@fluent-org/logger ]]; then
	mkdir -p "$home/fluent-$fluent"
	npm install --silent --no-fund --no-audit --prefix "$home/fluent-$fluent" "@fluent-org/logger@$fluent"
fi
