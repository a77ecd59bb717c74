#!/bin/sh
# Every invalidation of the library is needed, and missed: with those of one site left out, one of
# the given test programs ends with a report of a stale translation; with none left out, none
# does. flush_sites.sh ROOT PROGRAM...
# SPDX-License-Identifier: MIT
set -u
sites=$(sed -n '/define NEOMM_FLUSH_SITE_LIST/,/^$/s/^ *X(\([A-Z_]*\)).*/\1/p' \
    "$1/include/neomm/hook.h")
[ -n "$sites" ] || { echo "no sites in hook.h"; exit 1; }
shift

# What a program says of the first stale translation it meets while $1 is left out. A machine starts
# with a few loads of tables, without which there would be none to be stale.
report_of() {
    NEOMM_SKIP_FLUSH=$1:10 "$2" 2>&1 | sed -n 's/^sim: VIOLATION: \(stale translation: .*\)/\1/p'
}

bad=0
for program in "$@"; do
    text=$(report_of NONE "$program")
    [ -z "$text" ] && continue
    echo "nothing left out: $text"
    bad=1
done
for site in $sites; do
    for program in "$@"; do
        text=$(report_of "$site" "$program")
        [ -n "$text" ] && break
    done
    echo "$site: ${text:-no test has missed it}"
    [ -n "$text" ] || bad=1
done
exit $bad
