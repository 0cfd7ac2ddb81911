#!/usr/bin/env bash
# The demo of the README: a server with this machine as its host runs
# examples/hello.dstack.yml. Everything lives in a folder of its own and is
# stopped and removed at the end. Needs bin/dstack (make build), nothing else;
# with a Docker Engine the task runs in a container, without one as a process.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=$(mktemp -d "${TMPDIR:-/tmp}/dstack-demo.XXXXXX")
export HOME=$folder/home DSTACK_SERVER_DIR=$folder/server
mkdir -p "$HOME"
dstack=$PWD/bin/dstack
server=

finish() {
	if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
		"$dstack" fleet delete local -y >/dev/null 2>&1 || true
		kill "$server"
		wait "$server" || true
	fi
	rm -rf "$folder"
}
trap finish EXIT

free_port() {
	local port
	for port in $(seq $((20000 + RANDOM % 20000)) 65000); do
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
}

# The image of the example is made here from this machine's own shell and its
# libraries, so that no registry is needed.
make_image() {
	docker image inspect dstack-demo >/dev/null 2>&1 && return
	local root=$folder/image tool file
	mkdir -p "$root/bin" "$root/tmp" "$root/etc"
	for tool in sh sleep uname date; do
		tool=$(readlink -f "$(command -v "$tool")")
		for file in "$tool" $(ldd "$tool" 2>/dev/null | grep -oE '/[^ ]+'); do
			mkdir -p "$root$(dirname "$file")"
			cp -L "$file" "$root$file"
		done
	done
	cp -L "$(readlink -f "$(command -v sh)")" "$root/bin/sh"
	for tool in sleep uname date; do cp -L "$(readlink -f "$(command -v $tool)")" "$root/bin/$tool"; done
	tar -C "$root" -c . | docker import - dstack-demo >/dev/null
}

if docker version >/dev/null 2>&1; then
	echo "Docker Engine found: the task runs in a container."
	make_image
else
	echo "No Docker Engine: the task runs as a plain process, without isolation."
fi

port=$(free_port)
echo "\$ dstack server --local --port $port"
"$dstack" server --local --port "$port" -y >"$folder/server.log" 2>&1 &
server=$!
until grep -q 'is running at' "$folder/server.log"; do
	if ! kill -0 "$server" 2>/dev/null; then
		cat "$folder/server.log" >&2
		exit 1
	fi
	sleep 0.05
done

until "$dstack" fleet | grep -qw idle; do sleep 0.1; done

echo "\$ dstack apply -f examples/hello.dstack.yml -y"
"$dstack" apply -f examples/hello.dstack.yml -y
echo "\$ dstack ps -a"
"$dstack" ps -a
