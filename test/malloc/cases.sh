#!/bin/sh
# Bad frees, limits and options: cases.sh LIBRARY PROBE
# SPDX-License-Identifier: MIT
set -u
library=$1
probe=$2
bad=0
complain() {
    echo "$*"
    bad=1
}

# run OPTIONS WHAT: $status, $output (both streams)
run() {
    output=$(NEOMM_MALLOC_OPTIONS=$1 LD_PRELOAD=$library "$probe" "$2" 2>&1)
    status=$?
}

expect() { # WHAT STATUS TEXT
    [ "$status" -eq "$2" ] || complain "$1: status $status, not $2: $output"
    case $output in
    *"$3"*) ;;
    *) complain "$1: does not say '$3': $output" ;;
    esac
}

aborted=134
faulted=139
bad_frees="double-free:freed_already double-free-large: double-free-huge: inside-huge: inside:not_the_start
    inside-large:not_the_start unaligned:not_the_start stack:not_from_this image:not_from_this realloc-freed: wild:not_from_this"
for case in $bad_frees; do
    what=${case%%:*}
    text=$(echo "${case#*:}" | tr _ ' ')
    run "" "$what"
    expect "$what" $aborted "$text"
    expect "$what" $aborted "the program ends here"
    run bad_free=log "$what"
    expect "$what, logged" 0 "$text"
    case $output in
    *"ends here"*) complain "$what: ends although it should go on" ;;
    '') complain "$what: nothing in the log" ;;
    esac
done

# Under profile=hardened each second free is found, and bytes beside a block, and blocks of no bytes
# cannot be touched.
for case in double-free-later:freed_already overrun:written_to zero-twice:freed_already \
    zero-inside:not_the_start; do
    what=${case%%:*}
    run profile=hardened "$what"
    expect "$what" $aborted "$(echo "${case#*:}" | tr _ ' ')"
    expect "$what" $aborted "the program ends here"
done
for case in free-sized free-sized-large delete-sized delete-aligned; do
    run profile=hardened $case
    expect $case $aborted "kfree_sized of 0x"
    run "" $case
    expect "$case, sizes not known" 0 ""
done
for options in "" profile=fast profile=guarded,sampling=1 profile=hardened; do
    for case in usable-freed:malloc_usable_size usable-inside:malloc_usable_size \
        usable-wild:malloc_usable_size bound-freed:malloc_object_size; do
        run "$options" "${case%%:*}"
        expect "${case%%:*} ($options)" $aborted "${case#*:} of 0x"
        run "$options,bad_free=log" "${case%%:*}"
        expect "${case%%:*} ($options), logged" 0 "${case#*:} of 0x"
    done
    run "$options" sizes
    expect "sizes ($options)" 0 ""
done
run profile=hardened zero-blocks
expect "blocks of no bytes" 0 ""
# Accesses that fault are explained, and the signal is the program's.
for case in zero-read:a_block_of_no_bytes zero-write:a_block_of_no_bytes \
    large-before:beside_a_large_block large-behind:beside_a_large_block \
    large-aligned-before:beside_a_large_block large-freed:a_large_block,_after_it_was_freed \
    large-again:a_large_block,_after_it_was_freed large-moved:a_large_block,_after_it_was_freed; do
    what=${case%%:*}
    run profile=hardened "$what"
    expect "$what" $faulted "access of 0x"
    expect "$what" $faulted "$(echo "${case#*:}" | tr _ ' ')"
done
run profile=guarded,sampling=1 read-freed
expect "guarded block read after its end" $faulted "after it was freed"
run profile=guarded,sampling=1,bad_free=log read-freed
expect "guarded block read after its end, logged" 0 "after it was freed"
for options in "" profile=guarded profile=hardened; do
    run "$options" null-read
    expect "read of NULL ($options)" $faulted ""
    case $output in *neomm*) complain "read of NULL ($options): $output" ;; esac
    export NEOMM_PROBE_HANDLER=yes
    run "$options" null-read
    expect "read of NULL ($options), with a handler from before" 0 ""
    unset NEOMM_PROBE_HANDLER
done

run reserve=200M exhaust-large
expect "large blocks to the end of 200 MiB" 0 1
[ "$output" -gt 150 ] && [ "$output" -le 200 ] || complain "200 MiB gave $output of large blocks"
run reserve=200M exhaust-small
expect "small blocks to the end of 200 MiB" 0 1
[ "$output" -gt 150 ] && [ "$output" -le 200 ] || complain "200 MiB gave $output of small blocks"

# What is not used is not touched, however much there may be of it.
run reserve=64M,slots=1 resident
little=$output
for options in reserve=64G reserve=1T slots=63 reserve=64G,slots=1023; do
    run "$options" resident
    case $options$output in
    *understood*) continue ;; # so many only with 64 bits
    *slots=1023*) most=6144 ;;
    *) most=1024 ;;
    esac
    [ "$output" -lt $((little + most)) ] || complain "option $options: $output KiB, not $little"
done

# Addresses are limited: the allocator takes less of them.
output=$(ulimit -v 500000 && LD_PRELOAD=$library "$probe" limited 2>&1)
status=$?
expect "limited addresses" 0 ""
output=$(ulimit -d 100000 && LD_PRELOAD=$library "$probe" exhaust-small 2>&1)
status=$?
expect "limited data" 0 ""

run "" stats
expect "malloc_stats" 0 " allocations="
for options in nonsense bad_free= bad_free=maybe reserve=12Q reserve=-1 retain=1MM slots=0 slots=1024 \
    slots=x stats= profile= profile=soft sampling=x sampling=4G reserve=99999999999999999999 =x; do
    run "$options" nothing
    expect "option $options" 0 "not understood: $options"
done
for options in "" , slots=1 slots=63 retain=0 reserve=0 profile=fast profile=default \
    profile=guarded profile=guarded,sampling=1 profile=hardened sampling=0 reserve=1T bad_free=abort,retain=4M,slots=3; do
    run "$options" nothing
    expect "option $options" 0 ""
    [ -z "$output" ] || complain "option $options: $output"
done
exit $bad
