#!/usr/bin/env bash
# All tests at CI size. Prints the time of each stage; stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/../.."

stage() {
	local name=$1 start=$SECONDS
	shift
	echo "=== $name"
	"$@"
	echo "=== $name: $((SECONDS - start)) s"
}

stage "install what the tests need" test/ci/setup.sh
stage "build" make build
stage "lint" make lint
stage "unit tests with the race detector" make unit
stage "simulator, reduced" make sim SIM_SEEDS=4000
stage "simulator with clouds, reduced" make chaos-cloud SEEDS=400 CLOUD_SCHEDULES=0
stage "wire compatibility with the Python client" make wire
stage "the same answers as the real server" make api-compare
stage "answers as documented" make schemathesis SCHEMATHESIS_SEED=1 SCHEMATHESIS_TIME=70s
stage "the contract of clouds" make contract
stage "end to end" make e2e
stage "machines from a cloud" make e2e-cloud
stage "the database in object storages" make e2e-litestream
stage "logs in storages" make e2e-logs
stage "the server's image" make e2e-docker
stage "from 0.22.5 to ours" make takeover
stage "the Python client" make interop
stage "chaos, reduced" make chaos CHAOS_CUTS=10
stage "fuzz, 3 s each" make fuzz FUZZTIME=3s
echo "=== all stages: $SECONDS s"
