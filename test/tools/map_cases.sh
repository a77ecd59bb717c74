#!/bin/sh
# What `neomm map` makes of maps, good and broken: usage: map_cases.sh NEOMM DIRECTORY-OF-MAPS
# SPDX-License-Identifier: MIT
set -u
neomm=$1
maps=$2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# expect STATUS PATTERN ARGUMENT...: exit status of neomm map, and a line that matches the
# pattern. Input comes from $work/map if there is a `-`.
expect() {
    want=$1
    pattern=$2
    shift 2
    timeout 60 "$neomm" map "$@" >"$work/out" 2>&1 <"$work/map"
    have=$?
    if [ "$have" -eq "$want" ] && grep -qE -- "$pattern" "$work/out"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "# exit $have, not $want, or no line like '$pattern': neomm map $*"
        sed 's/^/#   /' "$work/out" | cut -c 1-200 | head -5
    fi
}

# line STATUS PATTERN TEXT: the same for a map of one line behind a good one.
line() {
    printf '0x100000 0x1000000 usable\n%b\n' "$3" >"$work/map"
    expect "$1" "$2" -
}

# number KEY: the first number of that name in the JSON that was printed.
number() {
    grep -oE "\"$1\":[0-9]+" "$work/out" | head -1 | cut -d: -f2
}

check() {
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "# $1: $2, should be $3"
    fi
}

: >"$work/map"

# The shipped maps.
expect 0 'Entries read: 22\. Other lines, skipped: 5\.' "$maps/laptop.txt"
expect 0 '0000000100000000-0000000465ffffff +13\.5G +usable' "$maps/laptop.txt"
expect 0 '0000000000000000-0000000000000fff +4K +usable, but frame 0' "$maps/laptop.txt"
expect 0 '000000000009f000-000000000009fbff +3K +usable, but not a whole frame' "$maps/old-bios.txt"
expect 0 '0000000002000123-0000000002000455 +819B +usable, but also called unusable' "$maps/overlaps.txt"
expect 0 'usable entry of no length' "$maps/overlaps.txt"
expect 0 '^\{"schema":"neomm.map/1","entries":22,"skipped_lines":5,' --json "$maps/laptop.txt"
expect 0 '"reason":"limit"' --json --limit 1G "$maps/laptop.txt"
check 'end below the limit' "$(number end)" 1073741824
expect 0 '^  all ' --limit 0x40000000 "$maps/laptop.txt"

# The same map in another hand: all ways to write it come to the same.
cat >"$work/map" <<'END'
0 9f000 usable
0x100000 0x8000000 usable
7ff0000 8000000 ACPI NVS
END
expect 0 schema --json -
cp "$work/out" "$work/first"
cat >"$work/map" <<'END'
Nov 21 05:40:00 host kernel: BIOS-e820: [mem 0x0000000000100000 - 0x0000000007ffffff] usable
<6>[    0.000000]  BIOS-e820: [mem 0x7ff0000-0x7ffffff] ACPI NVS
[mem 0x0-0x9efff] usable
END
expect 0 schema --json -
check 'e820 lines against plain ones' "$(cat "$work/out")" "$(cat "$work/first")"
printf 'BIOS-e820: 0 - 9f000 (1)\r\nBIOS-e820: 100000 - 8000000 (usable)\r\n07FF0000 08000000 type 4' >"$work/map"
expect 0 schema --json -
check 'old and numbered types' "$(cat "$work/out")" "$(cat "$work/first")"

# Types.
for type in usable RAM reserved 'soft reserved' 'ACPI data' 'ACPI NVS' acpi nvs unusable bad \
    kernel boot hotplug persistent 'persistent (type 7)' 'type 20' 'type 4294967295' 1 2 '(type 12)'; do
    line 0 'Entries read: 2' "0x2000000 0x3000000 $type"
done

# Memory that may come later: whole frames of nothing else.
line 0 '^  0000000002001000-0000000002ffffff +15\.9M +hotplug$' '0x2000800 0x3000000 hotplug'
line 0 '^  0000000000100000-0000000000ffffff +15M +usable$' '0x1000 0x1200000 hotplug'
check 'memory to come is not clipped' "$(grep -c '^Nothing was clipped' "$work/out")" 1
printf '0x100000 0x1000000 usable\n0x2000000 0x3000000 hotplug\n' >"$work/map"
expect 0 '\{"start":33554432,"bytes":16777216,"type":"hotplug"\}' --json -
check 'usable without memory to come' "$(number usable)" 15728640
expect 0 'hotplug, but above the limit' --limit 0x2000000 -

# Broken lines: file, line, and what is wrong.
line 1 '^<stdin>:2: error: unknown memory type `foo`' '0x0 0x1000 foo'
line 1 '^<stdin>:2: error: unknown memory type `usable x`' '0x0 0x1000 usable x'
line 1 '^<stdin>:2: error: unknown memory type' '0x0 0x1000 type 4294967296'
line 1 '^<stdin>:2: error: unknown memory type' '0x0 0x1000 type'
line 1 '^<stdin>:2: error: the type is missing' '0x0 0x1000'
line 1 '^<stdin>:2: error: a hexadecimal address should be' '0x0'
line 1 '^<stdin>:2: error: .* at `0x`' '0x'
line 1 '^<stdin>:2: error: `0x12g4 .*is not a hexadecimal' '0x12g4 0x2000 usable'
line 1 '^<stdin>:2: error: `0009fc0g' '0009fc0g 000a0000 reserved'
line 1 '^<stdin>:2: error: the range ends at 0x1000, before' '0x2000 0x1000 usable'
line 1 '^<stdin>:2: error: .*beyond 2\^64' '0 10000000000000001 usable'
line 1 '^<stdin>:2: error: .*beyond 2\^64' '123456789abcdef01 2 usable'
line 1 '^<stdin>:2: error: the range begins at 2\^64' '10000000000000000 10000000000000000 usable'
line 1 '^<stdin>:2: error: the last byte is at' 'BIOS-e820: [mem 0x0-0x10000000000000000] usable'
line 1 '^<stdin>:2: error: a `-` should be' 'BIOS-e820: [mem 0x0 0x1000] usable'
line 1 '^<stdin>:2: error: a `]` should be' 'BIOS-e820: [mem 0x0-0x1000 usable'
line 1 '^<stdin>:2: error: the type is missing' 'BIOS-e820: [mem 0x0-0xfff]'
line 1 '^<stdin>:2: error: a hexadecimal' 'BIOS-e820:'
line 1 '^<stdin>:2: error: the type should be in brackets' 'BIOS-e820: 0 - 1000 usable'
line 1 '^<stdin>:2: error: a NUL byte' 'abc\0000def'
line 0 'Entries read: 2' '0x2000000 10000000000000000 reserved\n# a comment\n\n'
line 0 'Other lines, skipped: 3' '2024-05-01T10:00 x\n12:30:01 x\nusable memory'

# All broken lines are named, not the first alone.
printf '0 x usable\n0 1000 usable\n5 4 usable\n' >"$work/map"
expect 1 '^<stdin>:1: error' -
expect 1 '^<stdin>:3: error' -
awk 'BEGIN { for (i = 0; i < 500; i++) print "0x0 0x1 nonsense" }' >"$work/map"
expect 1 'too many errors' -

# No map at all.
: >"$work/map"
expect 1 'no memory map here: 0 lines' -
printf 'hello\nworld\n' >"$work/map"
expect 1 'no memory map here: 2 lines' -
printf '0x0 0x1000 reserved\n' >"$work/map"
expect 1 'no usable memory in 1 entries' -
# Nowhere is room for the metadata.
printf '0x1000 0x3000 usable\n' >"$work/map"
expect 0 '^No usable range has room for .* of metadata' -
i=0
while [ $i -lt 1000 ]; do
    printf '0x%x 0x%x usable\n' $((i * 16777216)) $((i * 16777216 + 4194304))
    i=$((i + 1))
done >"$work/map"
expect 0 '"homeless_metadata":[1-9]' --json -
check 'usable of 1000 islands' "$(number usable)" $((1000 * 4194304 - 4096))
expect 1 'Is a directory' "$work"
expect 1 'No such file' "$work/none"
head -c 100000 /dev/urandom >"$work/map"
printf '\n0x0 \0' >>"$work/map"
expect 1 'error' -

# A line of 1 MB, skipped; another, broken.
{
    head -c 1000000 /dev/zero | tr '\0' x
    printf '\n0x0 0x1000000 usable\n'
} >"$work/map"
expect 0 'Other lines, skipped: 1' -
{
    printf '0x0 0x1000 '
    head -c 1000000 /dev/zero | tr '\0' y
    printf '\n'
} >"$work/map"
expect 1 '^<stdin>:1: error: unknown memory type `y+\.\.\.`$' -

# Hundreds of overlapping, unsorted entries against a count of frames one by one.
for seed in 1 2 3; do
    awk -v seed=$seed -v map="$work/map" '
        BEGIN {
            srand(seed)
            for (i = 0; i < 700; i++) {
                first = int(rand() * 60000); count = int(rand() * 900)
                type = rand() < 0.6 ? 1 : int(rand() * 4) + 2
                coming = rand() < 0.2
                printf "0x%x 0x%x %s\n", first * 4096, (first + count) * 4096,
                    coming ? "hotplug" : "type " type > map
                for (f = first; f < first + count && !coming; f++)
                    if (type != 1) worst[f] = 1; else usable[f] = 1
            }
            for (f in usable) if (!(f in worst) && f != 0) sum += 4096
            printf "%d\n", sum
        }' >"$work/want"
    expect 0 '"entries":700' --json -
    check "usable of 700 entries, seed $seed" "$(number usable)" "$(cat "$work/want")"
done

# Usage.
expect 2 '^usage: neomm map'
expect 2 '^usage: neomm map' a b
expect 2 'neomm map --help' --nonsense x
expect 2 'is not a size' --limit 12Q x
expect 2 'is not a size' --limit 100 x
expect 0 'Exit status' --help
"$neomm" >/dev/null 2>&1
check 'neomm without a command' $? 2
"$neomm" nonsense >/dev/null 2>&1
check 'an unknown command' $? 2
"$neomm" --help | grep -q '  map '
check 'neomm --help' $? 0
"$neomm" --version | grep -qE '^neomm [0-9]+\.[0-9]+\.[0-9]+$'
check 'neomm --version' $? 0
"$neomm" map "$maps/laptop.txt" >/dev/full 2>/dev/null
check 'a full disk' $? 1

echo "# map_cases: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
