#!/bin/sh
# Who includes whom: layers.sh ROOT. Prints each include that breaks the rule.
# SPDX-License-Identifier: MIT
set -u
cd "$1" || exit 1
bad=0
complain() {
    echo "$*"
    bad=1
}

# Folders of src/ that the files of folder $1 may include from.
allowed() {
    case $1 in
    base) echo "base" ;;
    arch) echo "arch base" ;;
    pmm) echo "pmm base" ;;
    paging) echo "paging base arch pmm" ;;
    heap) echo "heap base pmm" ;;
    swap) echo "swap base pmm" ;;
    vmm) echo "vmm base arch pmm paging heap swap" ;;
    esac
}

# Prints FILE:INCLUDED for every quoted and <neomm/...> include below the folders given, the
# quoted ones resolved to a path: beside the file, from src/, or from the arch folder.
includes() {
    grep -rnHE --include='*.[ch]' --include='*.S' '^[[:space:]]*#[[:space:]]*include' "$@" |
        sed -E 's/^([^:]*):[0-9]*:[[:space:]]*#[[:space:]]*include[[:space:]]*/\1 /'
}

resolve() { # FILE NAME -> path
    for candidate in "$(dirname "$1")/$2" "src/$2" "src/arch/x86_64/$2" "src/arch/i386/$2"; do
        if [ -f "$candidate" ]; then
            realpath --relative-to=. "$candidate"
            return
        fi
    done
    echo "nowhere/$2"
}

hosted='<(stdint|stddef|stdbool|stdarg|stdatomic|limits)\.h>'

check_src() {
    includes src | while read -r file name; do
        layer=$(echo "$file" | cut -d/ -f2)
        case $name in
        # (Base's snapshot has a part of each layer, by value.)
        '<neomm/pmm.h>' | '<neomm/paging.h>' | '<neomm/heap.h>' | '<neomm/swap.h>' | '<neomm/vmm.h>')
            from=${name#<neomm/}
            from=${from%.h>}
            case " $(allowed "$layer") " in
            *" $from "* | " base ") ;;
            *) [ "$layer:$from" = heap:paging ] && [ "${file##*/}" = source_window.c ] ||
                echo "$file: layer $layer may not include $name" ;;
            esac ;;
        '<neomm/'*) ;;
        '<'*) echo "$name" | grep -qE "^$hosted" || echo "$file: not freestanding: $name" ;;
        '"'*)
            target=$(resolve "$file" "$(echo "$name" | cut -d'"' -f2)")
            from=$(echo "$target" | cut -d/ -f2)
            case " $(allowed "$layer") " in
            *" $from "*) ;;
            # Large blocks come from the kernel window: the one door from heap to paging.
            *) [ "$file:$from" = src/heap/source_window.c:paging ] ||
                echo "$file: layer $layer may not include $target" ;;
            esac ;;
        esac
    done
    includes include | while read -r file name; do
        case $name in
        '<neomm/'*) ;;
        NEOMM_PORT_INLINE) [ "$file" = include/neomm/port.h ] ||
            echo "$file: only the port includes what a kernel names" ;;
        '<stdatomic.h>'*) echo "$file: $name is not for C++" ;;
        *) echo "$name" | grep -qE "^$hosted" || echo "$file: a public header includes $name" ;;
        esac
    done
}

# Programs see the contract alone; those of the host also the simulator's. Test harness files
# (ktap, env) are shared with the kernel.
check_programs() {
    for folder in kernel tools bench sim; do
        [ -d "$folder" ] || continue
        includes "$folder" | while read -r file name; do
            [ "${name#\"}" != "$name" ] || continue
            wanted=$(echo "$name" | cut -d'"' -f2)
            target=$(realpath --relative-to=. -m "$(dirname "$file")/$wanted")
            [ -f "$target" ] ||
                target=$(find "$folder" -name "$(basename "$wanted")" -type f | head -n 1)
            [ -n "$target" ] || target=$wanted
            case $folder:$target in
            "$folder:$folder"/* | tools:sim/* | bench:sim/*) ;;
            kernel:ktap.h | kernel:env.h | kernel:test/ktap.h | kernel:test/env.h) ;;
            *) echo "$file: $folder may not include $wanted" ;;
            esac
        done
    done
}

findings=$(check_src; check_programs)
[ -z "$findings" ] || complain "$findings"

# The library does not know where it runs.
findings=$(grep -rnE '#[[:space:]]*(if|ifdef|ifndef|elif).*(__linux__|__unix__|__KERNEL__|__STDC_HOSTED__|NEOMM_(HOST|KERNEL|SIM|TESTS)\b)' \
    src include)
[ -z "$findings" ] || complain "host or kernel in src: $findings"
exit $bad
