#!/bin/sh
# clang-tidy over the library: tidy.sh ROOT BUILD, where BUILD holds compile_commands.json.
# SPDX-License-Identifier: MIT
set -u
cd "$1" || exit 1
cmake -DNEOMM_ARCH=x86_64 -P cmake/neomm-list-sources.cmake |
    xargs -n 1 -P 2 clang-tidy --quiet -p "$2" --warnings-as-errors='*' 2>&1 |
    grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed|^Use -header|^$' >"$2/tidy.txt"
cat "$2/tidy.txt"
[ ! -s "$2/tidy.txt" ]
