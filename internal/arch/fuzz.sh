#!/usr/bin/env bash
# Runs every fuzz target of the module for $FUZZTIME, one after the other.
set -euo pipefail
: "${GO:=go}" "${FUZZTIME:=3s}"
n=0
for pkg in $($GO list ./...); do
	for target in $($GO test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "fuzz $pkg $target"
		$GO test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$pkg" >/tmp/bzzz-fuzz.$$ 2>&1 || { cat /tmp/bzzz-fuzz.$$; rm -f /tmp/bzzz-fuzz.$$; exit 1; }
		n=$((n + 1))
	done
done
rm -f /tmp/bzzz-fuzz.$$
echo "fuzz: $n targets for $FUZZTIME each, no finding"
[ "$n" -gt 0 ]
