#!/bin/sh
# script/mutate on a toy with one known survivor: mutate.sh ROOT
# SPDX-License-Identifier: MIT
set -u
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$root/test/mutants/toy" "$work/toy"
chmod -R u+w "$work/toy"
mkdir -p "$work/toy/test/mutants"
reasons=$work/toy/test/mutants/toy.txt
file=src/toy/toy.c
survivor='compare: if (value >= LIMIT) {'
failed=0

# expect NAME STATUS PATTERN: of the run before; an empty pattern: nothing but the summary.
expect() {
    if [ "$status" -ne "$2" ] || ! grep -Eq -e "$3" "$work/out"; then
        echo "mutate: $1: status $status, should be $2, with: $3"
        cat "$work/out" "$work/err"
        failed=1
    fi
}

run() {
    "$root/script/mutate" --root "$work/toy" --build "$work/build" "$@" >"$work/out" 2>"$work/err"
    status=$?
}

run $file toy
expect 'the survivor' 1 "^$file:12: survives: compare: if \(value >= LIMIT\) \{\$"
expect 'no other' 1 "^$file: 7 mutants, 0 do not compile, 6 noticed, 1 survive \(0 with a reason\)\$"
grep -q '\[7/7\]' "$work/err" || { echo "mutate: no progress"; failed=1; }
cmp -s "$work/build/tree/$file" "$work/toy/$file" || { echo "mutate: the copy is not restored"; failed=1; }

# With a reason it may; --lines judges no more than it is told to, and the tests are found.
printf '# toys\n%s: %s\n    The test does not look there.\n' $file "$survivor" >"$reasons"
run --lines 12 $file
expect 'a reason' 0 '3 mutants, .* 1 survive \(1 with a reason\)$'

printf '%s: negate: if (!(value > LIMIT)) {\n    Wrong.\n' $file >>"$reasons"
run --lines 12 $file toy
expect 'a reason for one that is noticed' 1 'toy.txt: stale, a test notices: .*negate: if \(!\(value'
run --lines 24 $file toy
expect 'judged only where it was tried' 0 '1 mutants, .* 0 survive'

printf '%s: negate: if (!(gone)) {\n    Gone.\n' $file >"$reasons"
run --lines 24 $file toy
expect 'a reason for one that is no more' 1 'toy.txt: stale, there is no such mutant: .*gone'

printf '%s: %s\n' $file "$survivor" >"$reasons"
run --lines 24 $file toy
grep -q 'toy.txt:1: no reason is given for' "$work/err" && [ $status -eq 1 ] ||
    { echo "mutate: an entry without a reason passed"; failed=1; }
rm "$reasons"

run --list --lines 14-24 $file
expect '--list' 0 "^$file:14: delete count: \(\*clamped\)\+\+;\$"
[ "$(wc -l <"$work/out")" -eq 3 ] || { echo "mutate: --list prints other than 3"; failed=1; }
run --list --lines 11,14-23 $file
[ "$(wc -l <"$work/out")" -eq 3 ] && grep -q ':11: ' "$work/out" && grep -q ':23: ' "$work/out" ||
    { echo "mutate: --lines takes no lists"; failed=1; }

# One run at a time in one copy.
mkdir "$work/build/busy"
echo $$ >"$work/build/busy/pid"
run $file toy

[ $status -eq 2 ] && grep -q "another run uses" "$work/err" && [ -d "$work/build/busy" ] ||
    { echo "mutate: two runs in one copy"; failed=1; }
rm -r "$work/build/busy"

# What cannot be judged is an error and no verdict.
run $file nonsense
[ $status -eq 2 ] || { echo "mutate: an unknown test passed"; failed=1; }
run src/toy/none.c
[ $status -eq 2 ] || { echo "mutate: a missing file passed"; failed=1; }
echo 'int broken(void) { return }' >>"$work/toy/$file"
run $file toy
[ $status -eq 2 ] || { echo "mutate: a tree that does not build passed"; failed=1; }
exit $failed
