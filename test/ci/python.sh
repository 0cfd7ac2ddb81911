#!/usr/bin/env bash
# Makes the Python environments that prove compatibility, below
# /var/cache/dstack-lab. Prints nothing when all is there.
set -euo pipefail
home=/var/cache/dstack-lab

# environment NAME PACKAGE... installs packages into $home/NAME, once.
environment() {
	local dir=$home/$1
	shift
	[[ -f $dir/complete ]] && [[ $(<"$dir/complete") == "$*" ]] && return
	rm -rf "$dir"
	mkdir -p "$home"
	if command -v uv >/dev/null; then
		uv venv -q "$dir"
		uv pip install -q --compile-bytecode --python "$dir/bin/python" "$@"
	else
		python3 -m venv "$dir"
		"$dir/bin/python" -m pip install -q "$@"
	fi
	echo "$*" >"$dir/complete"
}

# The real server, for api-compare and bench-api.
environment server-0.22.5 'dstack[all]==0.22.5'

# The client alone, for interop; the tools that check our OpenAPI document.
environment python-0.22.5 'dstack==0.22.5'
environment openapi schemathesis openapi-spec-validator

# EC2 for the contract suite of aws; test/cloudlab/moto adds to it.
environment moto 'moto[server,ec2]==5.2.5'
