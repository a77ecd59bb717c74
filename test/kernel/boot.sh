#!/bin/sh
# Boots a kernel in QEMU and judges its serial output: boot.sh KERNEL ARCH SECONDS [QEMU ARGUMENT...]
# Fails on a hang, on an exit status that is not the kernel's "all passed", and on KTAP that
# check.awk refuses. Prints the output.
# SPDX-License-Identifier: MIT
set -u
kernel=$1 arch=$2 seconds=$3
shift 3
here=$(dirname "$0")
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT

timeout -k 5 "$seconds" "qemu-system-$arch" -machine pc -accel tcg -kernel "$kernel" \
    -display none -serial stdio -monitor none -nic none -no-reboot \
    -device isa-debug-exit,iobase=0xf4,iosize=4 "$@" >"$output" 2>&1 </dev/null
status=$?
cat "$output"
"$here/judge.sh" "$status" "$output"
