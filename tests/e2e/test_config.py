"""The ini file: every mistake of a file told in one go, with file, line and the nearest known name; -t, -T, -V;
includes, secrets from the environment and from files.
"""

import re

import pytest

from belfry import run_daemon

GOOD = """\
[belfry]
workers = 2

[listener public]
listen = 127.0.0.1:0

[route /ws]
mode = rooms
protocol = json

[room chat:*]
join = anyone

[broker]
type = memory
"""
LAST_LINE = GOOD.count("\n")


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="belfry.ini"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file


def check(path, **options):
    """belfry -t: (exit code, {line: message} of the file's errors)."""
    result = run_daemon("-t", "-c", path, **options)
    output = result.stderr + result.stdout
    found = {}
    for line in output.splitlines():
        match = re.match(re.escape(str(path)) + r":(\d+): (.+)", line)
        if match:
            found.setdefault(int(match[1]), match[2])
    return result.returncode, found, output


def expect_error(path, line, pattern, **options):
    code, found, output = check(path, **options)
    assert code == 1, output
    assert line in found and re.search(pattern, found[line], re.I), output
    return found


def test_good_file(write):
    code, found, output = check(write(GOOD))
    assert (code, found) == (0, {}), output


def test_ten_mistakes_in_one_go(write):
    path = write("""\
[belfry]
worker = 2
max_connections = many
log_level = loud

[listener public]
listen = 127.0.0.1:99999
handshake_timeout = 10x

[rout /ws]
mode = rooms

[route /ws]
mode = room
protocol = jsn
max_message = -1

[room chat:*]
joyn = anyone
join = everyone
""")
    code, found, output = check(path)
    assert code == 1
    # line: what the message must hold, the nearest known name where there is one
    expected = {
        2: "workers",
        3: "max_connections|many",
        4: "loud",
        7: "99999",
        8: "10x",
        10: "route",
        14: "rooms",
        15: "json",
        16: "-1|max_message",
        19: "join",
        20: "anyone|everyone",
    }
    for line, pattern in expected.items():
        assert line in found, f"nothing about line {line}:\n{output}"
        assert re.search(pattern, found[line]), f"line {line}: {found[line]}"
    assert set(found) <= set(expected) | {11}, output  # 11: an option of the unknown section


def test_daemon_does_not_start_on_a_bad_file(write):
    path = write(GOOD + "[route /x]\nmod = rooms\n")
    result = run_daemon("-c", path)
    assert result.returncode == 1
    assert f"{path}:{LAST_LINE + 2}: " in result.stderr


@pytest.mark.parametrize(
    "text,line,pattern",
    [
        ("[nonsense]\n", 1, "nonsense"),
        ("[listenr x]\nlisten = 127.0.0.1:0\n", 1, "listener"),
        ("[route]\nmode = rooms\n", 1, "route"),
        ("[route ws]\nmode = rooms\n", 1, "/"),
        ("[belfry]\nworkers\n", 2, ""),
        ("[belfry]\nworkers =\n", 2, "workers"),
        ("[belfry]\nworkers = 0\n", 2, "workers"),
        ("[belfry]\nworkers = 1000000\n", 2, "workers"),
        ("workers = 2\n", 1, ""),
        ("[belfry\nworkers = 2\n", 1, ""),
        ("[route /x]\nping_interval = 5\n", 2, "unit|duration"),
        ("[route /x]\nsend_queue = 1q\n", 2, "1q"),
        ("[route /x]\nsend_queue = 99999999999999999999\n", 2, "send_queue|99999999999999999999"),
        ("[route /x]\necho = perhaps\n", 2, "perhaps"),
        ("[route /x]\nping_interval = 1s\nping_interval = 2s\n", 3, "ping_interval"),
        ("[route /x]\nmode = rooms\n\n[route /x]\nmode = rooms\n", 4, "/x"),
        ("[listener x]\nlisten = 127.0.0.1:0\ntls = yes\n", None, "certificate"),
        ("[listener x]\nlisten = 127.0.0.1:0\ntls = yes\ncertificate = no.pem\nprivate_key = k\n", None, "no.pem"),
        ("[listener x]\nlisten = nohost\n", 2, "nohost"),
        ("[broker]\ntype = rediss\n", 2, "redis"),
        ("[broker]\ntype = redis\nurl = http://x\n", 3, "url|http"),
        ("[control]\nlisten = 127.0.0.1:0\n", None, "token"),
        ("[route /x]\njoin_on_connect = a:{nonsense}\n", 2, "nonsense"),
        ("[room a b]\njoin = anyone\n", 1, "space|room"),
    ],
    ids=lambda value: ascii(value)[:40] if isinstance(value, str) else "",
)
def test_one_mistake(write, text, line, pattern):
    code, found, output = check(write(text))
    assert code == 1, output
    message = found.get(line) if line else output
    assert message is not None and re.search(pattern, message, re.I), output


def test_no_file(tmp_path):
    result = run_daemon("-t", "-c", tmp_path / "missing.ini")
    assert result.returncode == 1
    assert "missing.ini" in result.stderr + result.stdout


def test_over_long_line(write):
    # inih cuts lines silently; a cut origin list or path must never take effect.
    path = write("[belfry]\nworkers = 2\n[route /ws]\nmode = rooms\njoin_on_connect = " + "a," * 100000 + "b\n")
    expect_error(path, 5, "long")


def test_line_of_a_thousand_bytes(write):
    rooms = ", ".join(f"room:{i:04d}" for i in range(60))
    path = write(f"[listener public]\nlisten = 127.0.0.1:0\n[route /ws]\nmode = rooms\njoin_on_connect = {rooms}\n")
    assert check(path)[0] == 0
    shown = run_daemon("-T", "-c", path).stdout
    assert "room:0059" in shown and "room:0030" in shown


def test_nul_byte(write):
    expect_error(write(b"[belfry]\nworkers = 2\0\n"), 2, "")


def test_comments_and_blanks(write):
    code, _, output = check(write("# a comment\n; another\n\n" + GOOD.replace("workers = 2", "workers = 2   ; two")))
    assert code == 0, output


def test_crlf_file(write):
    code, _, output = check(write(GOOD.replace("\n", "\r\n")))
    assert code == 0, output


# include


def test_include(write):
    write("[room included:*]\njoin = anyone\n", "conf.d/a.ini")
    write("[room second:*]\njoin = anyone\n", "conf.d/b.ini")
    path = write("include = conf.d/*.ini\n" + GOOD)
    code, _, output = check(path)
    assert code == 0, output
    shown = run_daemon("-T", "-c", path).stdout
    assert "[room included:*]" in shown and "[room second:*]" in shown


def test_mistake_in_an_included_file_names_that_file(write):
    included = write("[room included:*]\n\njoyn = anyone\n", "conf.d/a.ini")
    result = run_daemon("-t", "-c", write("include = conf.d/*.ini\n" + GOOD))
    assert result.returncode == 1
    assert re.search(re.escape(str(included)) + r":3: .*join", result.stderr + result.stdout), result.stderr


def test_include_of_itself_ends(write):
    path = write("include = belfry.ini\n" + GOOD)
    result = run_daemon("-t", "-c", path)
    assert result.returncode == 1
    assert "include" in result.stderr + result.stdout


# Secrets

CONTROL = "[control]\nlisten = 127.0.0.1:0\ntoken = "
TOKEN_LINE = LAST_LINE + 3


def test_secret_from_the_environment(write):
    path = write(GOOD + CONTROL + "${BELFRY_TEST_TOKEN}\n")
    code, _, output = check(path, extra={"BELFRY_TEST_TOKEN": "sesame42"})
    assert code == 0, output
    assert "sesame42" not in output


def test_missing_variable(write):
    expect_error(write(GOOD + CONTROL + "${BELFRY_TEST_NONE}\n"), TOKEN_LINE, "BELFRY_TEST_NONE")


def test_secret_from_a_file(write):
    secret = write("sesame42\n", "token")
    code, _, output = check(write(GOOD + CONTROL + f"file:{secret}\n"))
    assert code == 0, output


def test_missing_secret_file(write, tmp_path):
    expect_error(write(GOOD + CONTROL + f"file:{tmp_path}/none\n"), TOKEN_LINE, "none")


# -T, -V and the rest of the command line


def test_effective_config_is_a_config(write):
    path = write(GOOD + CONTROL + "sesame42\n")
    shown = run_daemon("-T", "-c", path)
    assert shown.returncode == 0
    assert "sesame42" not in shown.stdout + shown.stderr
    assert "***" in shown.stdout
    for line in ("[belfry]", "[listener public]", "[route /ws]", "[room chat:*]", "[broker]", "[control]"):
        assert line in shown.stdout.splitlines()
    for option in ("workers", "max_connections", "handshake_timeout", "max_message", "send_queue", "publish"):
        assert re.search(rf"^{option} *= *\S", shown.stdout, re.M), option
    again = write(shown.stdout, "again.ini")
    code, _, output = check(again)
    assert code == 0, output
    assert run_daemon("-T", "-c", again).stdout == shown.stdout


def test_password_in_a_url_is_masked(write):
    path = write(GOOD.replace("type = memory", "type = redis\nurl = redis://user:hunter42@127.0.0.1:6379/0"))
    shown = run_daemon("-T", "-c", path)
    assert shown.returncode == 0
    assert "hunter42" not in shown.stdout + shown.stderr


def test_effective_config_of_a_bad_file(write):
    result = run_daemon("-T", "-c", write("[belfry]\nnonsense = 1\n"))
    assert result.returncode == 1
    assert "[belfry]" not in result.stdout


def test_version():
    result = run_daemon("-V")
    assert result.returncode == 0
    assert re.search(r"belfry \d+\.\d+", result.stdout)


def test_help():
    result = run_daemon("-h")
    assert result.returncode == 0
    assert "-c" in result.stdout and "-t" in result.stdout


@pytest.mark.parametrize("arguments", [["-x"], ["-c"], ["stray"]])
def test_bad_command_line(arguments):
    result = run_daemon(*arguments)
    assert result.returncode not in (0, -6, -11)
    assert "-h" in result.stderr or "usage" in result.stderr.lower()


# What a running daemon makes of it.


def test_units_take_effect(start):
    server = start("[route /ws]\nmode = rooms\nprotocol = json\nping_interval = 1m\n")
    assert server.open_json("/ws").welcome["ping"] == 60


def test_longest_route_wins(start):
    server = start(
        "[route /]\nmode = rooms\nprotocol = raw\n[route /a]\nmode = rooms\nprotocol = json\nping_interval = 1s\n"
        "[route /a/b]\nmode = rooms\nprotocol = json\nping_interval = 2s\n"
    )
    assert server.open_json("/a").welcome["ping"] == 1
    assert server.open_json("/a/x").welcome["ping"] == 1
    assert server.open_json("/a/b").welcome["ping"] == 2
    assert server.open_json("/a/b/c?d").welcome["ping"] == 2
    server.open("/ab").expect_silence(0.05)  # not below /a: the raw route, which says no welcome


def test_route_by_host(start):
    server = start(
        "[route /ws]\nmode = rooms\nprotocol = raw\n"
        "[route /ws/x]\nhost = one.example\nmode = rooms\nprotocol = json\nping_interval = 1s\n"
    )
    assert server.open_json("/ws/x", host="one.example").welcome["ping"] == 1


def test_tls_with_an_unreadable_key_does_not_start(write, certificate):
    listener = certificate.listener("secure").replace(str(certificate.key), "/none")
    code, _, output = check(write(GOOD + listener))
    assert code == 1
    assert "/none" in output


def test_port_in_use(start):
    # Two daemons must not share a port by SO_REUSEPORT: half of the clients would be in the wrong one.
    host, port = start(GOOD).address()
    with pytest.raises(AssertionError, match=f"did not start, exit code 1(?s:.)*{host}:{port}"):
        start(GOOD.replace("127.0.0.1:0", f"{host}:{port}"))
