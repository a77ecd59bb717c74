#!/bin/sh
# Runs README's commands, in the source tree as a reader would: readme.sh ROOT BUILD
# BUILD stands for build/release. Those that build or test everything are what brought us here, and run elsewhere.
# SPDX-License-Identifier: MIT
set -u
cd "$1" || exit 1
commands=$(sed -n '/^```sh$/,/^```$/{/^```/d;p;}' README.md | sed "s/ *#.*//; s|build/release/|$2/|g")
[ -n "$commands" ] || { echo "README has no commands"; exit 1; }
echo "$commands" | {
    bad=0
    while read -r command; do
        case $command in
        script/run | script/test) [ -x "$command" ] || bad=1 ;;
        "cmake --workflow --preset "*)
            cmake --list-presets=workflow | grep -q "\"${command##* }\"" || bad=1 ;;
        *)
            echo "+ $command"
            sh -c "$command" || { echo "failed: $command"; bad=1; } ;;
        esac
    done
    exit $bad
}
