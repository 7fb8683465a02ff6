#!/usr/bin/env bash
# Plants the faults of docs/KERNEL.md, "Traces to keep as mutants and tests",
# one after the other, and fails if the tests named for one of them pass: such
# tests prove nothing about the rule. Without a fault the same tests must pass.
#
#	mutants.sh          all of them
#	mutants.sh short    those of the kernel and the session
#
# A fault is a line of code behind mutant("its name"), which is always false
# but in a build with the tag "mutant" under BZZZ_MUTANT="its name".
#
# Two of KERNEL.md's list are not here. "Resumed snapshot with the newer clock":
# no snapshot is resumed, every session takes its own. "Scope clock into the
# namespace clock": sessions refuse scopes.
set -euo pipefail
: "${GO:=go}"
cd "$(dirname "$0")/../.."

# package | fault | tests that have to find it
table='
replica | context without own tombstone   | TestKernelTraces
replica | collection over a gap           | TestKernelTraces
replica | lagging dead                    | TestKernelTraces
replica | facts not written               | TestKernelTraces
replica | no gone mark                    | TestKernelTraces
replica | drop before adoption            | TestDropHoldsBackOverAGap
replica | gap taken for seen              | TestGapIsNotTakenForSeen
replica | tie by arrival                  | TestDotUsedTwice
replica | time below what it covers       | TestTraceTime
replica | poisoned clock                  | TestTracePoisonedClock
session | adoption before effects         | TestTraceAdoptionBeforeEffects
session | adoption before the last batch  | TestCrashInApply
session | adoption over damage            | TestTraceHeldClaim
session | lost dots adopted               | TestDamagedSender
session | clock newer than the listing    | TestTraceClockNewerThanTheListing
session | push before reconcile           | TestEveryFrameInEveryPhase
session | dots in flight in HELLO         | TestReconcile
session | claim from absence              | TestLostHeadsComeBack
session | brake ignored                   | TestBrakeHolds
session | drop without the adds           | TestTraceDropWithoutTheAdds
session | sender-side cursor              | TestCutRepair
session | scope clock into the namespace clock | TestScopesModel
engine  | drop before add                 | TestTraceDropBeforeAdd
engine  | tie by arrival                  | TestTraceTieByArrival
engine  | counter floor dropped           | TestCounterCountsAndResets
engine  | totals out of siblings          | TestCounterWithoutItsTotals
engine  | plain delete of counters        | TestCounterCountsAndResets
engine  | anchor ignored                  | TestIDIsDrawnAnew
engine  | anchor not locked               | TestNoDotIsUsedTwice
engine  | anchor naming a number          | TestNoDotIsUsedTwice
engine  | anchor written after the commit | TestDeathAtACommit
'
[ "${1:-}" != short ] || table=$(grep -vE '^engine ' <<<"$table")

trim() { sed -E 's/^ +| +$//g' <<<"$1"; }
dir_of() { [ "$1" = engine ] && echo engine || echo "engine/$1"; }

# Every fault in the code is in the table.
for name in $(grep -rhoE 'mutant\("[^"]+"\)' engine --include='*.go' | sort -u | sed -E 's/mutant\("(.*)"\)/\1/; s/ /~/g'); do
	if [ "${1:-}" != short ] && ! grep -qF "| ${name//\~/ } " <<<"$table"; then
		echo "mutants: no test is named for \"${name//\~/ }\"" >&2
		exit 1
	fi
done

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for pkg in replica session engine; do
	tests=$(awk -F'|' -v pkg="$pkg" '{ gsub(/ /, "", $1); gsub(/ /, "", $3) } $1 == pkg { print "^" $3 "$" }' <<<"$table" | sort -u | paste -sd '|' -)
	[ -n "$tests" ] || continue
	$GO test -c -tags mutant -o "$out/$pkg" "./$(dir_of "$pkg")"
	if ! (cd "$(dir_of "$pkg")" && "$out/$pkg" -test.short -test.run "$tests" >"$out/log" 2>&1); then
		cat "$out/log"
		echo "mutants: tests of $pkg fail without any fault" >&2
		exit 1
	fi
done

n=0 missed=0
while IFS='|' read -r pkg name pattern; do
	[ -n "$pattern" ] || continue
	pkg=$(trim "$pkg") name=$(trim "$name") pattern=$(trim "$pattern")
	if (cd "$(dir_of "$pkg")" && BZZZ_MUTANT="$name" "$out/$pkg" -test.short -test.timeout 60s -test.run "^$pattern\$" >"$out/log" 2>&1); then
		echo "mutants: $pattern passes although \"$name\" is planted in $pkg" >&2
		missed=$((missed + 1))
	elif ! grep -q "^--- FAIL: $pattern " "$out/log"; then
		cat "$out/log"
		echo "mutants: $pattern did not fail by itself under \"$name\"" >&2
		missed=$((missed + 1))
	fi
	n=$((n + 1))
done <<<"$table"
[ "$missed" -eq 0 ]
[ "$n" -gt 0 ]
echo "mutants: $n planted faults, each found by its test"
