#!/bin/sh
# Each public header alone, as C11 and C++17, by gcc and clang, for 64 and 32 bits:
# headers.sh ROOT
# SPDX-License-Identifier: MIT
set -u
cd "$1/include" || exit 1
bad=0
count=0
for header in neomm/*.h; do
    for bits in 64 32; do
        for compiler in gcc clang; do
            printf '#include <%s>\ntypedef int not_empty;\n' "$header" |
                $compiler -m$bits -std=c11 -ffreestanding -Wall -Wextra -pedantic -Werror \
                    -fsyntax-only -I. -x c - || bad=1
        done
        for compiler in g++ clang++; do
            printf '#include <%s>\ntypedef int not_empty;\n' "$header" |
                $compiler -m$bits -std=c++17 -ffreestanding -Wall -Wextra -pedantic -Werror \
                    -fsyntax-only -I. -x c++ - || bad=1
        done
        count=$((count + 1))
    done
done
[ $count -gt 0 ] || { echo "no headers"; bad=1; }
exit $bad
