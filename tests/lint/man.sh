#!/bin/sh
# The manual pages are clean mdoc, the generated one included (the working directory is the build's).
set -eu

command -v mandoc >/dev/null || {
    echo "mandoc is not installed (Debian, Fedora: mandoc): skipped"
    exit 77
}

problems=0
for page in "${srcdir:?run by make check}/man/belfry.8" "$srcdir/man/belfryctl.1" "$srcdir/man/belfry-module.3" \
    "$srcdir/man/belfry-protocol.7" man/belfry.ini.5; do
    mandoc -T lint -W warning "$page" || problems=1
done
exit $problems
