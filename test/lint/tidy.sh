#!/bin/sh
# clang-tidy over the library: tidy.sh ROOT BUILD NODES, where BUILD holds compile_commands.json. The
# analyser follows a function's paths until it has seen so many states.
# SPDX-License-Identifier: MIT
set -u
cd "$1" || exit 1
cmake -DNEOMM_ARCH=x86_64 -P cmake/neomm-list-sources.cmake |
    xargs -n 1 -P 2 clang-tidy --quiet -p "$2" --warnings-as-errors='*' \
        --extra-arg=-Xclang --extra-arg=-analyzer-config \
        --extra-arg=-Xclang --extra-arg=max-nodes="$3" 2>&1 |
    grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed|^Use -header|^$' >"$2/tidy-$3.txt"
cat "$2/tidy-$3.txt"
[ ! -s "$2/tidy-$3.txt" ]
