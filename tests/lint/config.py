#!/usr/bin/env python3
"""conf/belfry.ini and the program's option rows agree, and the manual page names every option.

`belfry --help-config ini` prints each section kind, and in it each option as `name = default`. In conf/belfry.ini
- every option of every kind is mentioned, as `name = value` or commented out as `;name = value`
  (a `;` directly before the name; prose comments have a space behind the `;`);
- one mention of each option shows its default, and a commented-out mention shows nothing else;
- nothing is mentioned that the program does not know.

Run by `make check` in the build directory; by hand: tests/lint/config.py [BELFRY [SOURCE_DIR [MAN_PAGE]]].
"""

import os
import pathlib
import re
import subprocess
import sys

SECTION = re.compile(r"^;?\[(\S+)[^\]]*\]\s*$")
OPTION = re.compile(r"^(;?)([a-z][a-z0-9_]*)\s*=\s*(.*?)\s*$")


def strip_comment(value):
    """inih takes ` ;` as the begin of a comment within a line."""
    return re.split(r"(?:^|\s);", value, maxsplit=1)[0].strip()


def read_ini(text, where):
    """[(kind, name, value, commented out, where)], and the kinds seen."""
    mentions = []
    kinds = []
    kind = None
    for number, line in enumerate(text.splitlines(), 1):
        section = SECTION.match(line)
        if section:
            kind = section.group(1)
            kinds.append(kind)
            continue
        option = OPTION.match(line)
        if option and option.group(2) != "include":  # no option: it reads files, in any section
            mentions.append((kind, option.group(2), strip_comment(option.group(3)), option.group(1) == ";",
                             f"{where}:{number}"))
    return mentions, kinds


def compare(rows, sample, where, problems):
    defaults = {}
    for kind, name, value, _, row_where in rows:
        if (kind, name) in defaults:
            problems.append(f"{row_where}: [{kind}] {name} appears twice among the option rows")
        defaults[(kind, name)] = value
    shown = set()
    seen = set()
    for kind, name, value, commented, at in sample:
        if (kind, name) not in defaults:
            problems.append(f"{at}: the program knows no option {name} in [{kind}]")
            continue
        seen.add((kind, name))
        default = defaults[(kind, name)]
        if value == default:
            shown.add((kind, name))
        elif commented:
            problems.append(f"{at}: [{kind}] {name} is commented out with {value!r}, its default is {default!r}")
    for kind, name in defaults:
        if (kind, name) not in seen:
            problems.append(f"{where}: [{kind}] {name} is missing, its default is {defaults[(kind, name)]!r}")
        elif (kind, name) not in shown:
            problems.append(f"{where}: [{kind}] {name} is set, but its default {defaults[(kind, name)]!r} is not shown:"
                            f" add a line `;{name} = {defaults[(kind, name)]}`")


def main():
    arguments = sys.argv[1:]
    belfry = arguments[0] if arguments else "./belfry"
    root = pathlib.Path(arguments[1] if len(arguments) > 1 else os.environ.get("srcdir", "."))
    page = pathlib.Path(arguments[2] if len(arguments) > 2 else "man/belfry.ini.5")

    printed = subprocess.run([belfry, "--help-config", "ini"], check=True, capture_output=True, text=True).stdout
    rows, kinds = read_ini(printed, "--help-config ini")
    if not rows:
        sys.exit("belfry --help-config ini printed no option")

    problems = []
    path = root / "conf/belfry.ini"
    sample, _ = read_ini(path.read_text(encoding="utf-8"), "conf/belfry.ini")
    compare(rows, sample, "conf/belfry.ini", problems)

    text = page.read_text(encoding="utf-8")
    for kind, name, _, _, _ in rows:
        if not re.search(rf"(?<![a-z0-9_]){name}(?![a-z0-9_])", text):
            problems.append(f"{page}: [{kind}] {name} is not described")

    for problem in problems:
        print(problem)
    print(f"{len(rows)} options in {len(set(kinds))} kinds of section, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
