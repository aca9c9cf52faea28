#!/usr/bin/env python3
"""The include rules of the source tree, checked on every #include under src/.

- main -> relay -> net -> proto -> base, downward only.
- No circle within a floor. The nodes are nouns (NOUN.h with NOUN.cc); a NOUN_PART may include its NOUN all the same.
- modules/ includes module.h alone; module.h includes <stddef.h> and <stdint.h> alone.
- Each library is named where it belongs (LIBRARY_PLACES); proto/ sees no socket and no clock.
- The generated <config.h> is included in main/ alone, in angle brackets.

Run by `make check`; by hand: tests/lint/includes.py [SOURCE_DIR].
"""

import os
import pathlib
import re
import sys

FLOORS = ["base", "proto", "net", "relay", "main"]
# First match wins: what <...> names, and the places (folders or files under src/) that may include it.
LIBRARY_PLACES = [
    (re.compile(r"event2/"), ["net/"]),
    (re.compile(r"openssl/(evp|hmac|sha)\.h$"), ["net/", "proto/", "base/"]),
    (re.compile(r"openssl/"), ["net/"]),
    (re.compile(r"hiredis/"), ["net/"]),
    (re.compile(r"simdjson"), ["proto/"]),
    (re.compile(r"zlib\.h$"), ["proto/deflate.cc"]),
    (re.compile(r"ini\.h$"), ["main/config_reader.cc"]),
    (re.compile(r"config\.h$"), ["main/"]),
]
# proto/ is pure: bytes in, events out. (inet_pton and what it needs only look at bytes.)
NOT_IN_PROTO = re.compile(
    r"sys/(socket|un|epoll|eventfd|timerfd|time|poll|select|ioctl)\.h$|netdb\.h$|poll\.h$|time\.h$"
    r"|chrono$|ctime$|thread$|mutex$|pthread\.h$"
)
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def includes_of(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1), match.group(2)


def check_library(here, name):
    for pattern, places in LIBRARY_PLACES:
        if pattern.match(name):
            if any(here == place or (place.endswith("/") and here.startswith(place)) for place in places):
                return None
            return f"<{name}> belongs in {', '.join(places)}"
    if here.startswith("proto/") and NOT_IN_PROTO.match(name):
        return f"<{name}>: proto/ has no socket, no clock and no thread"
    return None


def check_own(here, name, source):
    """An include in quotes: names a file under src/, on this floor or below."""
    if name == "config.h":
        return '"config.h": write <config.h>, for in quotes src/main/config.h is taken instead'
    if not (source / name).is_file():
        return f'"{name}" is no file under src/: own headers are written from src/, as "base/bytes.h"'
    floor, target = here.split("/")[0], name.split("/")[0]
    if name == "module.h":
        return None
    if target not in FLOORS:
        return f'"{name}": nothing includes {target}/'
    if FLOORS.index(target) > FLOORS.index(floor):
        return f'"{name}" is upward: {floor}/ stands below {target}/'
    return None


def is_part(stem, other):
    """net/tls_pairs is a part of net/tls and may include it."""
    return stem.startswith(other + "_")


def check_file(path, source, problems, edges):
    here = path.relative_to(source).as_posix()
    floor = here.split("/")[0]
    for number, quote, name in includes_of(path):
        problem = None
        if here == "module.h":
            if name not in ("stddef.h", "stdint.h"):
                problem = f"module.h includes <stddef.h> and <stdint.h> alone, not {name}"
        elif floor == "modules":
            if quote != '"' or name != "module.h":
                problem = f'a module includes "module.h" alone, not {name}'
        elif quote == "<":
            problem = check_library(here, name)
        else:
            problem = check_own(here, name, source)
            own = os.path.splitext(here)[0]
            other = os.path.splitext(name)[0]
            if problem is None and other != own and other.split("/")[0] == floor and not is_part(own, other):
                edges.setdefault(own, {}).setdefault(other, f"{here}:{number}")
        if problem:
            problems.append(f"src/{here}:{number}: {problem}")


def find_circle(edges):
    """One circle as a list of nouns, or None. Depth first; white, grey and black as usual."""
    colour = {}
    path = []

    def visit(node):
        colour[node] = "grey"
        path.append(node)
        for other in edges.get(node, {}):
            if colour.get(other) == "grey":
                return path[path.index(other):] + [other]
            if other not in colour:
                circle = visit(other)
                if circle:
                    return circle
        path.pop()
        colour[node] = "black"
        return None

    for node in sorted(edges):
        if node not in colour:
            circle = visit(node)
            if circle:
                return circle
    return None


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("srcdir", "."))
    source = root / "src"
    files = sorted(p for p in source.rglob("*") if p.suffix in (".h", ".cc", ".c"))
    if not files:
        sys.exit(f"{source}: no source files")
    problems = []
    edges = {}
    for path in files:
        check_file(path, source, problems, edges)
    circle = find_circle(edges)
    if circle:
        where = ", ".join(edges[a][b] for a, b in zip(circle, circle[1:]))
        problems.append(f"a circle within a floor: {' -> '.join(circle)} ({where})")
    for problem in problems:
        print(problem)
    print(f"{len(files)} files, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
