#!/bin/sh
# script/bootstrap on machines that are imitated by the commands it calls: bootstrap.sh ROOT
# SPDX-License-Identifier: MIT
set -u
bootstrap=$1/script/bootstrap
fake=$(mktemp -d)
trap 'rm -rf "$fake"' EXIT
bad=0

# Only these stand-ins and a few real tools are on the path.
for tool in sh cat; do
    ln -s "$(command -v $tool)" "$fake/$tool"
done
command_is() { # NAME BODY
    printf '#!/bin/sh\n%s\n' "$2" >"$fake/$1"
    chmod +x "$fake/$1"
}

# expect WHAT STATUS OUTPUT-PATTERN: runs bootstrap, compares; apt's calls are in $fake/calls.
expect() {
    : >"$fake/calls"
    output=$(PATH=$fake sh "$bootstrap" 2>&1)
    status=$?
    if [ $status -ne "$2" ] || ! printf '%s\n' "$output" | grep -qE "$3"; then
        echo "$1: status $status, said: $output"
        bad=1
    fi
}

expect "not Debian" 1 'not Debian.* gcc .*ninja-build'

command_is dpkg-query 'echo installed'
command_is apt-get "echo \"\$*\" >>$fake/calls"
command_is id 'echo 0'
expect "all is there" 0 '^$'
[ ! -s "$fake/calls" ] || { echo "apt-get was called for nothing"; bad=1; }

command_is dpkg-query 'case $* in *gcovr*) exit 1 ;; *) echo installed ;; esac'
expect "root, one missing" 0 'installing gcovr$'
grep -q 'install .* gcovr$' "$fake/calls" || { echo "gcovr was not asked for"; bad=1; }

command_is apt-get 'exit 100'
expect "apt-get fails" 1 'could not install: gcovr$'

command_is id 'echo 1000'
expect "not root, no sudo" 1 'may not install.*: gcovr$'
command_is sudo 'exit 1'
expect "not root, sudo asks" 1 'may not install.*: gcovr$'
command_is sudo '[ "$1" = -n ] && exit 0; exec "$@"'
command_is apt-get "echo \"\$*\" >>$fake/calls"
expect "sudo" 0 'installing gcovr$'
grep -q 'install .* gcovr$' "$fake/calls" || { echo "gcovr was not asked for by sudo"; bad=1; }
exit $bad
