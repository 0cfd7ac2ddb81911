#!/usr/bin/env bash
# Runs every fuzz target of the tree for the given time, one after another.
set -euo pipefail
cd "$(dirname "$0")/../.."
duration=${1:-30s}
grep -rlE --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	package=./$(dirname "${file#./}")
	grep -hoE '^func (Fuzz[A-Za-z0-9_]+)' "$file" | awk '{print $2}' | while read -r target; do
		echo "fuzz $package $target $duration"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" "$package"
	done
done
