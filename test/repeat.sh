#!/bin/sh
# Runs a test program again and again, for what only shows now and then: repeat.sh TIMES PROGRAM
# SPDX-License-Identifier: MIT
set -u
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT
turn=0
while [ "$turn" -lt "$1" ]; do
    turn=$((turn + 1))
    if ! "$2" >"$output" 2>&1; then
        cat "$output"
        echo "repeat: turn $turn of $1 failed"
        exit 1
    fi
done
echo "repeat: $1 turns"
