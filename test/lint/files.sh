#!/bin/sh
# The shape of every source file: files.sh ROOT. Head, length, unique name, no paths of a machine,
# nothing left over.
# SPDX-License-Identifier: MIT
set -u
cd "$1" || exit 1
bad=0
complain() {
    [ -z "$1" ] && return
    printf '%s\n%s\n' "$2" "$1"
    bad=1
}

sources=$(find src include sim kernel malloc tools bench test \
    \( -name '*.[chS]' -o -name '*.cc' -o -name '*.ld' \) -type f)
scripts=$(find script .ci test cmake kernel malloc tools bench sim -type f \
    \( -name '*.sh' -o -name '*.cmake' -o -name CMakeLists.txt -o -path 'script/*' -o -path '.ci/*' \))

complain "$(for file in $sources $scripts; do
    head -n 8 "$file" | grep -q 'SPDX-License-Identifier: MIT' || echo "$file"
done)" "no SPDX line in the head:"

complain "$(for file in $sources $scripts; do
    lines=$(wc -l <"$file")
    case $file in
    test/test_*) most=900 ;;
    *) most=700 ;;
    esac
    [ "$lines" -le $most ] || echo "$file: $lines"
done)" "too long:"

# Architectures mirror each other; the private header of a layer may be called as the public one.
complain "$(for file in $sources; do echo "$file"; done |
    grep -vE '^include/|/(x86_64|i386)/' | sed 's|.*/||' | sort | uniq -d)" "the same name twice:"

# Written so that this file does not find itself.
complain "$(grep -rnIE '/(work|farm|root|home)/[a-z]' src include sim kernel malloc tools bench test \
    docs script cmake traces .ci CMakeLists.txt CMakePresets.json README.md CHANGELOG.md |
    grep -v '^test/lint/files.sh:')" "a path of some machine:"

complain "$(grep -rnIwE 'TODO|FIXME|XXX|HACK' src include sim kernel malloc tools bench test docs script |
    grep -v '^test/lint/files.sh:')" "left over:"

complain "$(grep -rnI '[[:space:]]$' $sources $scripts | head -n 20)" "space at the end of a line:"
exit $bad
