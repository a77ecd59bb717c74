#!/bin/sh
# What `neomm replay` and `memstat` say to good and bad input: usage: replay_cases.sh NEOMM MEMSTAT
# SPDX-License-Identifier: MIT
set -u
neomm=$1
memstat=$2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# expect STATUS PATTERN COMMAND...: exit status, and a line of output that matches the pattern.
expect() {
    want=$1
    pattern=$2
    shift 2
    timeout 60 "$@" >"$work/out" 2>&1 </dev/null
    have=$?
    if [ "$have" -eq "$want" ] && { [ -z "$pattern" ] || grep -qE -- "$pattern" "$work/out"; }; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "# exit $have, not $want, or no line like '$pattern': $*"
        sed 's/^/#   /' "$work/out" | head -5
    fi
}

# trace TEXT: a file with these lines, escapes as printf's.
trace() {
    printf "$1" >"$work/trace"
    echo "$work/trace"
}

replay() {
    want=$1
    pattern=$2
    file=$(trace "$3")
    shift 3
    expect "$want" "$pattern" "$neomm" replay "$@" "$file"
}

good='==12== Lackey\nI  04000000,3\n L 1ffe000010,8\n S 04001ffc,8\n M 04001ffc,8\n'

replay 0 'references +6 on 4 pages' "$good"
replay 0 '; 1 other lines skipped' "$good"
replay 0 '"references":6,' "$good" --json
replay 0 '"content_errors":0,' "$good" --json --resident-limit 1p --policy lru
replay 0 '"total":4,"zero":4,"swap_in":0,' "$good" --json --format 5level
replay 0 'references +1 on' 'I  00400000,3\r\n'
replay 0 '"skipped_lines":4' "I am no record\nInput\n\n L\nI  00400000,3\n" --json

replay 1 'trace:2: error: expected a hexadecimal address' ' L 400000,4\n L xyz,4\n'
replay 1 "trace:1: error: expected ',' behind the address" ' S 400000 4\n'
replay 1 'trace:1: error: expected a decimal size' ' S 400000,\n'
replay 1 'trace:1: error: expected a decimal size' ' S 400000,4x\n'
replay 1 'trace:1: error: the size is 0' ' M 400000,0\n'
replay 1 'trace:1: error: the size is above' ' M 400000,70000\n'
replay 1 'trace:1: error: the size is above' ' M 400000,99999999999999999999\n'
replay 1 'trace:1: error: the address has more than 64 bits' 'I  12345678901234567,4\n'
replay 1 'trace:3: error: address 0xffff888000000000 is outside the user half' \
    '\n L 400000,4\n L ffff888000000000,8\n'
replay 1 'trace:1: error: address 0x7fffffffeffc is outside' ' L 7fffffffeffc,8\n'

# Made-up traces begin at page 0.
replay 0 '"faults":."total":4,"zero":2,"swap_in":2,' ' S 0,8\n L 1008,8\n L 0,8\n S ffc,8\n' --json \
    --resident-limit 1p
replay 0 '"tlb_hits":[0-9]+,"walks":[0-9]+' "$good" --json
if "$neomm" replay --json "$(trace "$good")" >/dev/full 2>/dev/null; then
    failed=$((failed + 1))
    echo '# a full disk went unseen'
fi
replay 1 'trace:2: error: the last line is cut short' ' L 400000,4\n S 4000'
replay 1 'trace:2: error: the last line is cut short' ' L 400000,4\n S'
replay 1 'error: no record in the trace' ''
replay 1 'error: no record in the trace' 'hello\nworld'
replay 1 'trace:1: error: expected' ' L \0004000,4\n'
replay 1 'gave no occasion' 'I  00400000,3\n' --inject lose-write

# A line longer than any buffer is somebody's output; a machine too small says so.
{ head -c 3000000 /dev/zero | tr '\0' x; printf '\n L 400000,4\n'; } >"$work/long"
expect 0 '; 1 other lines skipped' "$neomm" replay "$work/long"
{ printf ' L 400000,4\n L '; head -c 3000000 /dev/zero | tr '\0' 4; } >"$work/long"
expect 1 'long:2: error:' "$neomm" replay "$work/long"
i=0
while [ $i -lt 3000 ]; do
    printf ' S %x,8\n' $((4194304 + i * 4096))
    i=$((i + 1))
done >"$work/many"
expect 1 'many:[0-9]+: error: address 0x[0-9a-f]+: out of memory' \
    "$neomm" replay --ram 8M --swap 1M "$work/many"
expect 0 'content errors +0' "$neomm" replay --ram 8M --swap 64M "$work/many"

expect 1 'nothere: error: cannot open' "$neomm" replay "$work/nothere"
expect 1 'error:' "$neomm" replay "$work"
expect 2 'usage: neomm replay' "$neomm" replay
expect 2 'usage: neomm replay' "$neomm" replay a b
expect 2 'unrecognized option' "$neomm" replay --no-such-option x
expect 2 "'12q' is not a size" "$neomm" replay --ram 12q x
expect 2 'at least a page' "$neomm" replay --resident-limit 100 x
expect 2 'is not lose-write' "$neomm" replay --inject nothing x
expect 2 'is not 4level or 5level' "$neomm" replay --format pae x
replay 1 "no policy 'optimal'" "$good" --policy optimal
expect 0 'usage: neomm replay' "$neomm" replay --help

# Strings of pages: 3 pages, and records 0 1w 2 0w 1 0 with little-endian numbers.
head='NMT2\003\0\0\0\006\0\0\0\0\0\0\0'
numbers='\0\004\0\0\0\0\0\0\001\004\0\0\0\0\0\0\005\004\0\0\0\0\0\0'
records='\0\0\0\0\003\0\0\0\004\0\0\0\001\0\0\0\002\0\0\0\0\0\0\0'
replay 0 '"load":4,"store":2,.*"total":3,.*"optimal":3,"ratio":1.0000' "$head$numbers$records" --json
replay 0 '"total":6,"zero":3,"swap_in":3,.*"optimal":6,' "$head$numbers$records" --json \
    --resident-limit 1p --policy fifo
replay 0 '"frames":1,"pages":3,"references":6,"misses":6,"optimal":6,"ratio":1.0000,"tests":5,' \
    "$head$numbers$records" --fast --json --resident-limit 34% --policy fifo
replay 0 'misses +5; OPT 4, 1.250 times as many' "$head$numbers$records" --fast --policy fifo \
    --resident-limit 2p
replay 0 '"misses":4,"optimal":4,' "$good" --fast --json --policy opt
replay 0 'evictions +5, of which 4 were written' "$head$numbers$records" --fast --policy opt \
    --resident-limit 1p
# Two hundred pages in turn, three times, on a hundred frames: neighbours fault one after the other.
pages=$(awk 'BEGIN { for (i = 0; i < 600; i++) printf " S %x,8\\n", 4194304 + i % 200 * 4096 }')
replay 0 '"swap_in":400,"readahead":.*"faults":204,"page_ins":400,"ahead":196,"used":196,"wasted":0' \
    "$pages" --fast --json --resident-limit 100p --policy fifo
replay 0 '"swap_in":400}' "$pages" --fast --json --resident-limit 100p --policy fifo --readahead 0
replay 0 'readahead +204 major faults .0.51 of 400., 400 page-ins .1.00.; 196 pages ahead, 100 % useful' \
    "$pages" --fast --resident-limit 100p --policy fifo --readahead 2
# The same on the whole machine, where every page has been written to and none is all one word.
awk 'BEGIN { seed = 1; for (i = 0; i < 30000; i++) {
    if (i % 50 == 0) { seed = (seed * 16807) % 2147483647; at = seed % 600; step = seed % 3 - 1 }
    at = (at + step + 600) % 600; seed = (seed * 16807) % 2147483647
    if (step == 0) at = seed % 600
    printf " S %x,8\n S %x,8\n", 4194304 + at * 4096, 4194304 + at * 4096 + 8 } }' >"$work/walk"
for policy in adaptive clock fifo s3fifo; do
    # (the machine notices use when the block faults next, so not that of the last pages)
    ahead='"readahead":{[^}]*"ahead":[0-9]*'
    fast=$("$neomm" replay --fast --json --policy "$policy" --resident-limit 20% "$work/walk" |
        grep -o "$ahead")
    expect 0 "$fast" "$neomm" replay --json --readahead 16 --policy "$policy" \
        --resident-limit 120p "$work/walk"
done
replay 2 "'17' is not 0 to 16" "$pages" --readahead 17
replay 0 '"misses":0,' 'NMT2\0\0\0\0\0\0\0\0\0\0\0\0' --fast --json
replay 1 'not a whole NMT2 header' 'NMT2\003\0\0\0'
replay 1 'not a whole NMT2 header' 'NMT2\0\0\0\377\0\0\0\0\0\0\0\0'
replay 1 'shorter than its header says' "$head$numbers"
replay 1 'shorter than its header says' "$head"
replay 1 'longer than its header says' "$head$numbers$records."
replay 1 'trace:6: error: a record names a page' \
    "$head$numbers\0\0\0\0\003\0\0\0\004\0\0\0\001\0\0\0\002\0\0\0\006\0\0\0"
replay 1 "no such policy: optimal" "$good" --fast --policy optimal
replay 1 "no policy 'opt'" "$good" --policy opt
replay 2 "'N%' is not known before the end" "$good" --resident-limit 10%
expect 2 "'101%' is not 1% to 100%" "$neomm" replay --resident-limit 101% x
expect 2 "'0%' is not 1% to 100%" "$neomm" replay --resident-limit 0% x
zstd -q -o "$work/pages.zst" "$(trace "$head$numbers$records")"
expect 0 '"misses":3,' "$neomm" replay --fast --json "$work/pages.zst"
zstd -q -o "$work/text.zst" "$(trace "$good")"
expect 0 'references +6 on 4 pages' "$neomm" replay "$work/text.zst"
head -c 40 "$work/pages.zst" >"$work/cut.zst"
expect 1 'cut.zst:.*error:' "$neomm" replay "$work/cut.zst"
expect 1 'cannot run zstd' env PATH=/nowhere "$neomm" replay "$work/text.zst"

printf '[swap]\npolicy = fifo\n[process.default]\nresident_limit = 8K\n' >"$work/good.conf"
printf '[swap]\npolice = fifo\n' >"$work/bad.conf"
replay 0 '"policy":"fifo".*"resident_limit":8192,' "$good" --json --config "$work/good.conf"
replay 0 '"policy":"lru".*"resident_limit":4096,' "$good" --json --config "$work/good.conf" \
    --policy lru --resident-limit 1p
replay 1 "bad.conf:2:1: error: .*did you mean 'policy'" "$good" --config "$work/bad.conf"
replay 1 'nothere' "$good" --config "$work/nothere"

replay 0 'references' "$good" --snapshot "$work/end.snap" --snapshot-start "$work/start.snap"
expect 0 'swap' "$memstat" "$work/end.snap"
expect 0 '"schema":"neomm.memstat/1"' "$memstat" --json "$work/end.snap"
expect 0 '"schema"' "$memstat" --json "$work/start.snap" 0.01 3
[ "$(grep -c schema "$work/out")" -eq 3 ] || { failed=$((failed + 1)); echo '# not 3 objects'; }
head -c 100 "$work/end.snap" >"$work/short.snap"
expect 1 'cannot write the output: No space' sh -c "'$memstat' '$work/end.snap' >/dev/full"
expect 1 'cannot write the output: No space' sh -c "'$memstat' --help >/dev/full"
expect 1 'not a snapshot' "$memstat" "$work/short.snap"
expect 1 'not a snapshot' "$memstat" "$work/many"
expect 1 'nothere' "$memstat" "$work/nothere"
expect 0 '' "$memstat" --check-config "$work/good.conf"
expect 1 "bad.conf:2:1: error: .*did you mean 'policy'" "$memstat" --check-config "$work/bad.conf"
expect 1 'nothere: error: No such file' "$memstat" --check-config "$work/nothere"
expect 2 'usage: memstat' "$memstat"
expect 2 'usage: memstat' "$memstat" x y z
expect 2 'usage: memstat' "$memstat" x 1 2 3

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
