#!/usr/bin/env bash
# Runs every fuzz target of the tree for the given time, two side by side.
set -euo pipefail
cd "$(dirname "$0")/../.."
duration=${1:-30s}
export duration

targets() {
	grep -rlE --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
		grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$file" | awk -v package="./$(dirname "${file#./}")" '{print package, $2}'
	done
}

fuzz() {
	local output
	if output=$(go test -vet=off -run '^$' -timeout 60m -fuzz "^$2\$" -fuzztime "$duration" -parallel 1 "$1" 2>&1) || at_its_end "$output"; then
		echo "fuzz $1 $2 $duration: $(tail -n 2 <<<"$output" | head -n 1)"
	else
		printf 'fuzz %s %s %s failed\n%s\n' "$1" "$2" "$duration" "$output"
		return 1
	fi
}

# golang/go#75804: the end of -fuzztime can be reported as a failure. A real
# one names the input that it wrote.
at_its_end() {
	grep -q 'context deadline exceeded' <<<"$1" && ! grep -qE 'Failing input|panic|hung' <<<"$1"
}
export -f fuzz at_its_end

targets | xargs -P 2 -L 1 bash -c 'fuzz "$@"' fuzz
