#!/bin/sh
# What a built library asks of the outside, and what it must not hold:
# symbols.sh NM OBJDUMP LIBRARY [EXTRA-SYMBOL...]
# SPDX-License-Identifier: MIT
set -u
nm=$1
objdump=$2
library=$3
shift 3
bad=0

allowed='memcpy|memmove|memset|memcmp|neomm_port_[a-z_]*|neomm_cpu_[a-z0-9_]*'
allowed="$allowed|__start_neomm_sites|__stop_neomm_sites"
for extra in "$@"; do
    allowed="$allowed|$extra"
done

table=$("$nm" --format=posix "$library") || exit 1
defined=$(echo "$table" | awk 'NF >= 3 && $2 !~ /^[Uwv]$/ {print $1}' | sort -u)
wanted=$(echo "$table" | awk '$2 ~ /^[Uwv]$/ {print $1}' | sort -u)
[ -n "$defined" ] && [ -n "$wanted" ] || { echo "nothing read from $library"; exit 1; }

outside=$(echo "$wanted" | grep -vxF "$defined" | grep -vxE "$allowed")
if [ -n "$outside" ]; then
    echo "undefined and not on the list:"
    for symbol in $outside; do
        echo "  $symbol"
        "$nm" -A "$library" 2>/dev/null | grep -E " [Uwv] $symbol\$" | sed 's/^/    /'
    done
    bad=1
fi

# Global names carry the prefix, and nothing writable lives outside a root.
foreign=$(echo "$table" | awk '$2 ~ /^[TDBRCVWG]$/ {print $1}' |
    grep -vE '^(neomm_|__start_neomm|__stop_neomm|__x86\.get_pc_thunk)')
if [ -n "$foreign" ]; then
    echo "global names without the prefix:" $foreign
    bad=1
fi
# Constants with addresses in them (.data.rel.ro) are read-only once loaded.
mutable=$("$objdump" --syms "$library" | grep -E '[[:space:]](\.t?(data|bss)|\*COM\*)' |
    grep -vE '\.data\.rel\.ro| l    d |neomm_site_')
if [ -n "$mutable" ]; then
    echo "static mutable data:"
    echo "$mutable"
    bad=1
fi
exit $bad
