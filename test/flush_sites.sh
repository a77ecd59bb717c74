#!/bin/sh
# Every invalidation of the library is needed, and missed: with those of one site left out, one of
# the given test programs ends with a report of a stale translation; with none left out, none
# does. flush_sites.sh ROOT ABSENT PROGRAM...
# ABSENT is a site that the programs' architecture does not have, or "none": it must not be missed.
# SPDX-License-Identifier: MIT
set -u
sites=$(sed -n '/define NEOMM_FLUSH_SITE_LIST/,/^$/s/^ *X(\([A-Z_]*\)).*/\1/p' \
    "$1/include/neomm/hook.h")
[ -n "$sites" ] || { echo "no sites in hook.h"; exit 1; }
absent=$2
shift 2

# What a program, doing an nth of what it can, says of the first stale translation it meets while a
# site is left out: report_of SITE PROGRAM N. A machine starts with a few loads of tables, without
# which there would be none to be stale.
report_of() {
    NEOMM_SHARE=$3 NEOMM_SKIP_FLUSH=$1:10 "$2" 2>&1 |
        sed -n 's/^sim: VIOLATION: \(stale translation: .*\)/\1/p'
}

# One program or the other misses the site within an nth of what they do: missed SITE N PROGRAM...
missed() {
    site=$1 share=$2
    shift 2
    for program in "$@"; do
        text=$(report_of "$site" "$program" "$share")
        [ -n "$text" ] && return
    done
    false
}

bad=0
for program in "$@"; do
    text=$(report_of NONE "$program" 10)
    [ -z "$text" ] && continue
    echo "nothing left out: $text"
    bad=1
done
for site in $sites; do
    # All that a program can do takes long, and is seldom needed. That nothing is missed while all
    # is in place, the programs have shown in full as tests of their own.
    missed "$site" 10 "$@" || [ "$site" = "$absent" ] || missed "$site" 1 "$@"
    echo "$site: ${text:-no test has missed it}"
    if [ "$site" = "$absent" ]; then
        [ -z "$text" ] || bad=1
    else
        [ -n "$text" ] || bad=1
    fi
done
exit $bad
