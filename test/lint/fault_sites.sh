#!/bin/sh
# Every fault point was made to fail by some test of this build: fault_sites.sh ROOT FOLDER ARCH
# FOLDER holds what the tests wrote at their ends, lines of "site passes failures".
# SPDX-License-Identifier: MIT
set -u
sites=$(sed -n '/define NEOMM_FAULT_SITE_LIST/,/^$/s/^ *X(\([A-Z_]*\)).*/\1/p' \
    "$1/include/neomm/hook.h")
[ -n "$sites" ] || { echo "no sites in hook.h"; exit 1; }
[ -n "$(ls "$2" 2>/dev/null)" ] || { echo "no test has written into $2"; exit 1; }

bad=0
for site in $sites; do
    # A 64-bit machine's direct map holds all memory.
    [ "$3:$site" = x86_64:PAGING_SLOT ] && continue
    counts=$(cat "$2"/* | awk -v site="$site" \
        '$1 == site {passes += $2; failures += $3} END {print passes + 0, failures + 0}')
    [ "${counts#* }" -gt 0 ] && continue
    echo "$site: passed ${counts% *} times, never made to fail"
    bad=1
done
exit $bad
