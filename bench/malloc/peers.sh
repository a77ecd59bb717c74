#!/bin/sh
# Allocators side by side: peers.sh [--runs N] [--peer FILE.so]... MALLOC-BENCH LIBRARY [ROW...]
# Preloads libneomm-malloc.so, the C library's own and those of Debian that are installed (mimalloc,
# jemalloc, tcmalloc) by turns, a process for each row, and prints the medians and, last, ours to
# mimalloc; or, with --peer, those libraries alone, and ours to the first. NEOMM_MALLOC_OPTIONS
# chooses what ours is.
# SPDX-License-Identifier: MIT
set -u
runs=3 given='' against=mimalloc
while :; do
    case ${1:-} in
    --runs) runs=$2 ;;
    --peer)
        name=$(basename "$2" .so)
        [ -n "$given" ] || against=$name
        given="$given $name:$2"
        ;;
    *) break ;;
    esac
    shift 2
done
[ $# -ge 2 ] || { sed -n 's/^# Allocators.*: //p' "$0"; exit 2; }
bench=$1
ours=$2
shift 2
rows=${*:-$("$bench" --list)}

peers="neomm:$ours"
[ -z "$given" ] || peers=$peers$given
[ -n "$given" ] || peers="$peers libc:"
for peer in mimalloc:libmimalloc.so.2 mimalloc:libmimalloc.so.2.0 jemalloc:libjemalloc.so.2 \
    tcmalloc:libtcmalloc_minimal.so.4; do
    [ -z "$given" ] || break
    file=$(find /usr/lib -name "${peer#*:}" 2>/dev/null | head -n 1)
    case $peers in
    *" ${peer%%:*}:"*) ;;
    *) [ -z "$file" ] || peers="$peers ${peer%%:*}:$file" ;;
    esac
done

results=$(mktemp)
trap 'rm -f "$results"' EXIT
run=0
while [ $run -lt "$runs" ]; do
    for row in $rows; do
        for peer in $peers; do
            LD_PRELOAD=${peer#*:} "$bench" "$row" | sed "s/^/${peer%%:*} /" >>"$results"
        done
    done
    run=$((run + 1))
done

awk -v against="$against" -v names="$(for peer in $peers; do printf '%s ' "${peer%%:*}"; done)" '
    { n = ++count[$1, $2]; value[$1, $2, n] = $4; unit[$2] = $3
      if (!($2 in seen)) { seen[$2] = 1; order[++rows] = $2 } }
    function median(peer, row,    n, i, j, t, v) {
        n = count[peer, row]
        if (n == 0) return "-"
        for (i = 1; i <= n; i++) v[i] = value[peer, row, i]
        for (i = 1; i < n; i++)
            for (j = i + 1; j <= n; j++)
                if (v[j] < v[i]) { t = v[i]; v[i] = v[j]; v[j] = t }
        return v[int((n + 1) / 2)]
    }
    END {
        peers = split(names, name, " ")
        printf "%-16s %-6s", "row", "unit"
        for (i = 1; i <= peers; i++) printf " %10.10s", name[i]
        printf " %8s\n", "ratio"
        for (r = 1; r <= rows; r++) {
            printf "%-16s %-6s", order[r], unit[order[r]]
            for (i = 1; i <= peers; i++) printf " %10s", median(name[i], order[r])
            theirs = median(against, order[r])
            if (theirs > 0) printf " %8.2f\n", median("neomm", order[r]) / theirs
            else printf " %8s\n", "-"
        }
    }' "$results"
