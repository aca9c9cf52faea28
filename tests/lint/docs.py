#!/usr/bin/env python3
"""What the documentation names exists.

In README.md, NEWS.md, CONTRIBUTING.md and all *.md below doc/, examples/ and src/web/:
- every relative link resolves, and so does its #fragment where the target is such a file, too;
- in an indented or fenced ini block, every section kind and option is one that the program knows
  (`belfry --help-config ini`), in the section that it stands in;
- what stands as `option = value` within a line is an option of some section;
- a block with a listener and a route is a whole configuration: `belfry -t` takes it (without its certificates, and with
  something for each ${NAME} and file:PATH).

What conf/nginx and conf/haproxy show of belfry.ini in comments is read the same way.

Run by `make check` in the build directory; by hand: tests/lint/docs.py [BELFRY [SOURCE_DIR]].
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

BELFRY = sys.argv[1] if len(sys.argv) > 1 else "./belfry"
ROOT = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("srcdir", "."))
KINDS = {"belfry", "listener", "upstream", "route", "room", "broker", "control"}
SECTION = re.compile(r"^\[(\w+)(?: [^\]]*)?\]\s*(?:;.*)?$")
OPTION = re.compile(r"^([a-z][a-z0-9_]*)\s*=\s")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
problems = []


def options_of():
    """{kind: names}"""
    printed = subprocess.run([BELFRY, "--help-config", "ini"], check=True, capture_output=True, text=True).stdout
    known, kind = {}, None
    for line in printed.splitlines():
        section = re.match(r"^;?\[(\w+)", line)
        option = re.match(r"^;?([a-z][a-z0-9_]*)\s*=", line)
        if section:
            kind = section.group(1)
            known.setdefault(kind, set())
        elif option and kind:
            known[kind].add(option.group(1))
    return known


def documents():
    found = [ROOT / name for name in ("README.md", "NEWS.md", "CONTRIBUTING.md")]
    for tree in ("doc", "examples", "src/web"):
        found += sorted((ROOT / tree).rglob("*.md"))
    return [path for path in found if path.exists()]


# ---- links

def anchor(heading):
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors_of(path):
    return {anchor(h) for h in re.findall(r"^#+ +(.+)$", path.read_text(encoding="utf-8"), re.M)}


def check_links(path, text):
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("    "):
            continue
        for found in LINK.finditer(line):
            target = found.group(1) or found.group(2)
            if re.match(r"[a-z]+:", target):
                continue
            name, _, fragment = target.partition("#")
            there = (path.parent / name) if name else path
            if not there.exists():
                problems.append(f"{path}:{number}: {target} does not exist")
            elif fragment and there.suffix == ".md" and fragment not in anchors_of(there):
                problems.append(f"{path}:{number}: {name or path.name} has no heading #{fragment}")


# ---- options

def check_block(where, lines, known):
    """Lines of an ini file, as (number, text); what stands in sections that are not Belfry's is passed over."""
    kind = None
    for number, line in lines:
        section = SECTION.match(line)
        if section:
            kind = section.group(1) if section.group(1) in KINDS else None
            continue
        option = OPTION.match(line)
        if option and kind and option.group(1) != "include" and option.group(1) not in known[kind]:
            problems.append(f"{where}:{number}: [{kind}] has no option {option.group(1)}")


def blocks_of(text):
    """Indented and fenced blocks, without their indentation."""
    block, fenced = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
            yield block
            block = []
        elif fenced:
            block.append((number, line))
        elif line.startswith("    ") or (block and not line.strip()):
            block.append((number, line[4:]))
        elif block:
            yield block
            block = []
    yield block


def check_named(path, text, known):
    """`option = value` in prose."""
    every = set().union(*known.values())
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("    "):
            continue
        for quoted in re.findall(r"`([a-z][a-z0-9_]*) = [^`]*`", line):
            if quoted not in every and quoted != "include":
                problems.append(f"{path}:{number}: no section has an option {quoted}")


def check_whole(where, lines):
    """A configuration that somebody may copy works, but for the files that it names."""
    text = "\n".join(line for _, line in lines)
    if not re.search(r"^\[listener ", text, re.M) or not re.search(r"^\[route ", text, re.M):
        return
    number = lines[0][0]
    text = re.sub(r"^(tls|certificate|private_key) *=.*\n", "", text, flags=re.M)
    text = re.sub(r"\$\{REDIS_URL\}", "redis://127.0.0.1:6379/0", text)
    text = re.sub(r"\$\{\w+\}|file:\S+", "whsec_c29tZXRoaW5nIG9mIHRoaXJ0eS10d28gYnl0ZXM=", text)
    with tempfile.NamedTemporaryFile("w", suffix=".ini") as f:
        f.write(text + "\n")
        f.flush()
        done = subprocess.run([BELFRY, "-t", "-c", f.name], capture_output=True, text=True)
        if done.returncode:
            problems.append(f"{where}:{number}: belfry -t: {done.stderr.replace(f.name, '').strip()}")


def main():
    known = options_of()
    if set(known) != KINDS:
        problems.append(f"--help-config ini prints the sections {sorted(known)}")
        known = {kind: known.get(kind, set()) for kind in KINDS}
    files = documents()
    for path in files:
        text = path.read_text(encoding="utf-8")
        check_links(path, text)
        check_named(path, text, known)
        for block in blocks_of(text):
            check_block(path, block, known)
            if block:
                check_whole(path, block)
    for path in (ROOT / "conf/nginx/belfry.conf", ROOT / "conf/haproxy/belfry.cfg"):
        lines = path.read_text(encoding="utf-8").splitlines()
        comments = [(n, line.lstrip("# ")) for n, line in enumerate(lines, 1) if line.startswith("#   ")]
        check_block(path, comments, known)
    for problem in problems:
        print(problem)
    print(f"{len(files)} files, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
