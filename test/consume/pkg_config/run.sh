#!/bin/sh
# run.sh SOURCE BUILD WORK: installs BUILD, moves the tree, and builds by pkg-config's word alone.
# SPDX-License-Identifier: MIT
set -eu
rm -rf "$3"
cmake --install "$2" --component neomm --prefix "$3/first"
mv "$3/first" "$3/moved"
PKG_CONFIG_PATH=$(dirname "$(find "$3/moved" -name neomm.pc)")
export PKG_CONFIG_PATH
pkg-config --exact-version="$(pkg-config --modversion neomm)" neomm
# pkg-config escapes what the shell would part, so its words are read by the shell once more.
eval "cc -std=c11 $(pkg-config --cflags neomm)" '"$1/test/consume/consumer.c"' \
    "$(pkg-config --libs neomm)" '-o "$3/consumer"'
"$3/consumer"
