#!/bin/sh
# The verdict over one boot: judge.sh QEMU-STATUS SERIAL-OUTPUT. Says why it fails.
# SPDX-License-Identifier: MIT
#
# The kernel ends QEMU with (code << 1) | 1: 33 all passed, 35 a test failed, 37 panic. timeout
# ends it with 124, or 137 if it did not listen.
set -u
case $1 in
33) ;;
35) echo "boot: the kernel says that a test failed" && exit 1 ;;
37) echo "boot: the kernel panicked" && exit 1 ;;
124 | 137) echo "boot: no end within the time: a hang" && exit 1 ;;
*) echo "boot: unexpected end of the machine, status $1" && exit 1 ;;
esac

# Every plan is followed by its results, numbered from 1, all of them ok.
tr -d '\r' <"$2" | awk '
    function finish() {
        if (planned >= 0 && seen != planned) {
            print "boot: " planned " results planned, " seen " seen"
            bad = 1
        }
        planned = -1
        seen = 0
    }
    BEGIN { planned = -1 }
    /^KTAP version 1$/ { finish(); headers++ }
    /^1\.\.[0-9]+$/ {
        planned = substr($0, 4) + 0
        plans++
    }
    /^not ok / { print "boot: " $0; bad = 1; seen++ }
    /^ok / {
        seen++
        if ($2 != seen) {
            print "boot: result " $2 " where " seen " was due"
            bad = 1
        }
    }
    END {
        finish()
        if (headers == 0 || plans != headers) {
            print "boot: " headers + 0 " suites and " plans + 0 " plans"
            bad = 1
        }
        exit bad
    }'
