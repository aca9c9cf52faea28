#!/bin/sh
# Runs one test program for `make check`: a unit test as it is, a fuzz target over the files of its corpus.
# Called by automake's harness with the program's path; $srcdir and $SANITIZER_FLAGS are in the environment.
set -eu

program=$1
shift
case $program in
*/fuzz_*)
    corpus=${srcdir:?}/tests/fuzz/corpus/${program##*/fuzz_}
    set -- "$corpus"/*
    if [ ! -f "$1" ]; then
        echo "$corpus holds no input: every fuzz target needs a seed corpus" >&2
        exit 1
    fi
    ;;
esac

# A finding of a sanitizer ends the test with a full report.
export ASAN_OPTIONS="${ASAN_OPTIONS:-strict_string_checks=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
export TSAN_OPTIONS="${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}"

case $program in
/*) ;;
*) program=./$program ;;
esac

# ThreadSanitizer of gcc 12 maps its shadow at fixed addresses: 32 bits of mmap randomisation break it.
case ${SANITIZER_FLAGS:-} in
*fsanitize=thread*)
    if setarch "$(uname -m)" -R true 2>/dev/null; then
        exec timeout 300 setarch "$(uname -m)" -R "$program" "$@"
    fi
    ;;
esac
exec timeout 300 "$program" "$@"
