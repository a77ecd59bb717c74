#!/bin/sh
# What is installed works where it lies: install.sh BUILD FOLDER PROBE
# SPDX-License-Identifier: MIT
set -eu
rm -rf "$2"
cmake --install "$1" --component neomm-malloc --prefix "$2" >/dev/null
library=$(find "$2" -name libneomm-malloc.so)
[ -n "$library" ]
LD_PRELOAD=$library "$3" stats 2>&1 | grep ' allocations='
