#!/bin/sh
# Every header compiles alone: it includes what it uses, so that the order of includes never matters.
# $CXX, $HEADER_FLAGS and $srcdir come from `make check`; two compilers at once, for make has two or more cores.
set -eu

: "${CXX:?run by make check}" "${HEADER_FLAGS:?run by make check}" "${srcdir:?run by make check}"
export CXX HEADER_FLAGS srcdir

headers=$(cd "$srcdir/src" && find . -name '*.h' | sed 's,^\./,,' | LC_ALL=C sort)
[ -n "$headers" ] || {
    echo "$srcdir/src: no headers" >&2
    exit 1
}

# An xargs child that fails makes xargs fail with 123, after all of them have run. HEADER_FLAGS is a list of words.
# shellcheck disable=SC2016
printf '%s\n' "$headers" | xargs -n 1 -P 2 sh -c '
    case $1 in
    module.h) language="-x c -std=c11"; compiler=${CC:-cc}; flags="-I$srcdir/src -Wall -Wextra -Wpedantic" ;;
    *) language="-x c++"; compiler=$CXX; flags=$HEADER_FLAGS ;;
    esac
    printf "#include \"%s\"\n" "$1" | $compiler $flags $language -Werror -fsyntax-only - || {
        echo "src/$1 does not compile alone"
        exit 1
    }' sh

# The installed header is C++, too: modules are written in either.
# shellcheck disable=SC2086
echo '#include "module.h"' | $CXX $HEADER_FLAGS -x c++ -Werror -fsyntax-only - || {
    echo "src/module.h does not compile as C++"
    exit 1
}

echo "$(printf '%s\n' "$headers" | wc -l) headers"
