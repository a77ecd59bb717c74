#!/bin/sh
# run.sh SOURCE BUILD WORK: builds SOURCE as a part of another project.
# SPDX-License-Identifier: MIT
set -eu
rm -rf "$3"
cmake -G Ninja -S "$1/test/consume/add_subdirectory" -B "$3/build" -DNEOMM_FOLDER="$1" \
    -DCMAKE_INSTALL_PREFIX="$3/prefix"
cmake --build "$3/build"
"$3/build/consumer"
ctest --test-dir "$3/build" --show-only | grep -q 'Total Tests: 0'
cmake --install "$3/build"
[ "$(cd "$3/prefix" && find . -type f)" = ./bin/consumer ]
