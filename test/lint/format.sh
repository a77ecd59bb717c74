#!/bin/sh
# Formatted by .clang-format: format.sh ROOT
# SPDX-License-Identifier: MIT
set -u
cd "$1" || exit 1
find src include sim kernel malloc tools bench test -name '*.[ch]' -type f -print0 |
    xargs -0 -n 16 -P 2 clang-format --dry-run -Werror
