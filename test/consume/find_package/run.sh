#!/bin/sh
# run.sh SOURCE BUILD WORK: installs BUILD into WORK/prefix and builds against that.
# SPDX-License-Identifier: MIT
set -eu
rm -rf "$3"
cmake --install "$2" --component neomm --prefix "$3/prefix"
[ -z "$(find "$3/prefix/include" -type f ! -path '*/include/neomm/*.h')" ]
cmake -G Ninja -S "$1/test/consume/find_package" -B "$3/build" -DCMAKE_PREFIX_PATH="$3/prefix"
cmake --build "$3/build"
"$3/build/consumer"
