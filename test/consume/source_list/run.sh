#!/bin/sh
# run.sh SOURCE BUILD WORK: a build by hand from what cmake/neomm-list-sources.cmake
# prints, for both architectures and in both flavours.
# SPDX-License-Identifier: MIT
set -eu
rm -rf "$3"
cd "$1"
for arch in x86_64 i386; do
    machine=-m64
    [ $arch = x86_64 ] || machine="-m32 -march=i686"
    sources=$(cmake -DNEOMM_ARCH=$arch -P cmake/neomm-list-sources.cmake | grep -v '/cpu\.c$')
    for flavour in 0 1; do
        out=$3/$arch-$flavour
        mkdir -p "$out"
        # shellcheck disable=SC2086
        echo $sources | tr ' ' '\n' | xargs -P 2 -I '{}' sh -c '
            object=$1/$(echo "$2" | tr / _).o
            shift 2
            exec "$@" -o "$object"' sh "$out" '{}' \
            cc $machine -std=c11 -O1 -ffreestanding -mgeneral-regs-only -Iinclude -Isrc \
            -Isrc/arch/$arch -DNEOMM_INSTRUMENTED=$flavour -c '{}'
        ar rcs "$out/libneomm.a" "$out"/*.o
        # shellcheck disable=SC2086
        cc $machine -std=c11 -DNEOMM_INSTRUMENTED=$flavour -Iinclude \
            test/consume/consumer.c "$out/libneomm.a" -o "$out/consumer"
        "$out/consumer"
    done
done
