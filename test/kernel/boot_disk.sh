#!/bin/sh
# Boots a kernel as boot.sh does, with a virtio disk on which mkswap has made a swap area:
# boot_disk.sh KERNEL ARCH SECONDS WORDS [QEMU ARGUMENT...]; WORDS are for the kernel's command line.
# The kernel must have swapped to it, and left its header alone.
# SPDX-License-Identifier: MIT
set -u
kernel=$1 arch=$2 seconds=$3 words=$4
shift 4
here=$(dirname "$0")
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
disk=$directory/disk

truncate -s 1M "$disk" && /sbin/mkswap -p 4096 -L neomm "$disk" >/dev/null || exit 1
cp "$disk" "$directory/before" || exit 1
"$here/boot.sh" "$kernel" "$arch" "$seconds" -append "$words" \
    -drive "file=$disk,if=none,id=swap,format=raw,cache=unsafe" \
    -device virtio-blk-pci,drive=swap "$@" || exit 1
if ! cmp -s -n 4096 "$disk" "$directory/before"; then
    echo "boot_disk: the header of the swap area has changed"
    exit 1
fi
if cmp -s "$disk" "$directory/before"; then
    echo "boot_disk: nothing was written to the disk"
    exit 1
fi
