#!/bin/sh
# The library's sources by both compilers, for both architectures, in both flavours, without one
# warning: warnings.sh ROOT
# SPDX-License-Identifier: MIT
set -u
cd "$1" || exit 1
flags="-std=c11 -ffreestanding -mgeneral-regs-only -fsyntax-only -Iinclude -Isrc -Wall -Wextra
    -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Werror"
bad=0
for arch in x86_64 i386; do
    sources=$(cmake -DNEOMM_ARCH=$arch -P cmake/neomm-list-sources.cmake)
    [ -n "$sources" ] || exit 1
    machine=-m64
    [ $arch = x86_64 ] || machine="-m32 -march=i686"
    for flavour in 0 1; do
        for compiler in gcc clang; do
            # shellcheck disable=SC2086
            echo $sources | xargs -n 8 -P 2 $compiler $flags $machine -Isrc/arch/$arch \
                -DNEOMM_INSTRUMENTED=$flavour || bad=1
        done
    done
done
exit $bad
