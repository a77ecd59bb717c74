#!/bin/sh
# judge.sh must pass what is right and refuse everything else.
# SPDX-License-Identifier: MIT
set -u
here=$(dirname "$0")
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT
bad=0

# expect pass|fail STATUS NAME, the serial output on stdin
expect() {
    cat >"$output"
    verdict=pass
    "$here/judge.sh" "$2" "$output" >/dev/null || verdict=fail
    if [ "$verdict" != "$1" ]; then
        echo "judge_test: $3: $verdict, should $1"
        bad=1
    fi
}

good='KTAP version 1
# suite: boot
1..2
ok 1 frames
ok 2 heap # SKIP no reason'

echo "$good" | expect pass 33 "all right"
printf '%s\n%s\n' "$good" "$good" | expect pass 33 "two suites"
echo "$good" | sed 's/$/\r/' | expect pass 33 "carriage returns"
for status in 0 1 35 37 124 137; do
    echo "$good" | expect fail $status "status $status"
done
: | expect fail 33 "no output"
echo "$good" | grep -v '^1\.\.' | expect fail 33 "no plan"
echo "$good" | grep -v '^KTAP' | expect fail 33 "no header"
echo "$good" | grep -v '^ok 2' | expect fail 33 "a result is missing"
echo "$good" | grep -v '^ok 1' | expect fail 33 "the first result is missing"
printf '%s\nok 3 more\n' "$good" | expect fail 33 "a result too many"
echo "$good" | sed 's/^ok 2/not ok 2/' | expect fail 33 "a failed test"
{ echo "$good" | grep -v '^ok 2'; echo "$good"; } | expect fail 33 "first of two suites cut short"
exit $bad
