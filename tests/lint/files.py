#!/usr/bin/env python3
"""The rules for files: length, opening comment, and that Makefile.am names each of them.

- No source file over 700 lines; the median 300 or fewer.
- Every C++ file opens with a comment that says what it is; headers carry `#pragma once`.
- No deferred work in comments: it belongs in an issue.
- Every file under src/, tests/unit/ and tests/fuzz/ is named in Makefile.am, so that none is forgotten in a build or
  in the tarball, and every fuzz target has a corpus.

Run by `make check`; by hand: tests/lint/files.py [SOURCE_DIR].
"""

import os
import pathlib
import re
import statistics
import sys

LENGTH_MAX = 700
MEDIAN_MAX = 300
DEFERRED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def cxx_files(root, folders):
    for folder in folders:
        yield from sorted(p for p in (root / folder).rglob("*") if p.suffix in (".h", ".cc", ".c"))


def check_text(name, text, problems):
    lines = text.splitlines()
    if len(lines) > LENGTH_MAX:
        problems.append(f"{name}: {len(lines)} lines, {LENGTH_MAX} are allowed")
    if not lines or not lines[0].startswith(("//", "/*")):
        problems.append(f"{name}:1: opens without a comment that says what it is, who owns it, which thread")
    if name.endswith(".h") and "#pragma once" not in lines and "#ifndef" not in text:
        problems.append(f"{name}: no #pragma once")
    for number, line in enumerate(lines, 1):
        if DEFERRED.search(line):
            problems.append(f"{name}:{number}: deferred work belongs in an issue: {line.strip()}")


def check_named(root, names, problems):
    makefile = (root / "Makefile.am").read_text(encoding="utf-8")
    words = set(re.split(r"[\s=]+", re.sub(r"(?m)^#.*", "", makefile)))
    for name in names:
        stem = os.path.splitext(name)[0]
        # Programs of one source file are named by the program: its source follows from it.
        program = stem if name.startswith(("tests/unit/", "tests/fuzz/")) else None
        if name not in words and program not in words:
            problems.append(f"{name}: not named in Makefile.am")
    for word in sorted(words):
        if re.match(r"(src|tests)/.*\.(h|cc|c)$", word) and not (root / word).is_file():
            problems.append(f"Makefile.am: {word} does not exist")


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("srcdir", "."))
    problems = []
    lengths = []
    names = []
    for path in cxx_files(root, ["src", "tests/unit", "tests/fuzz"]):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        check_text(name, text, problems)
        names.append(name)
        if name.startswith("src/"):
            lengths.append(len(text.splitlines()))
        if name.startswith("tests/fuzz/fuzz_"):
            corpus = root / "tests/fuzz/corpus" / path.stem[len("fuzz_"):]
            if not corpus.is_dir() or not any(corpus.iterdir()):
                problems.append(f"{name}: no corpus in {corpus.relative_to(root)}")
    if not lengths:
        sys.exit(f"{root}/src: no source files")
    median = statistics.median(lengths)
    if median > MEDIAN_MAX:
        problems.append(f"src/: the median file has {median} lines, {MEDIAN_MAX} are allowed")
    check_named(root, names, problems)
    for problem in problems:
        print(problem)
    print(f"{len(names)} files, longest {max(lengths)} lines, median {median:.0f}, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
