"""fault 68: a canary in every place where a secret can stand is found in no output, whatever fails.

The servers do their worst: they repeat what they were sent, in their status line, their headers,
their page, their banner, and so that it is cut in the middle.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service_precheck import schemes
from service_precheck.options import VARIABLE, Option, Scheme
from tests.bed.pages import Request, ScriptedHTTP
from tests.bed.process import SOURCE, TOOLBOX, Finished, Gate, run
from tests.bed.recording import Recording, all_recordings, at, replay, shown
from tests.bed.services.grpc_scripted import Scripted, status
from tests.bed.sockets import Behaviour, Connection, Server, answer, hang
from tests.bed.tls import TLS, Authority

# The parts are looked for alone: half a secret is one too many.
PARTS = ("Zq7Canary", "Secret9xKw")
CANARY = "-".join(PARTS)
BASIC = base64.b64encode(f"user:{CANARY}".encode()).decode()
BEARER = "Authorization: Bearer " + CANARY


def found(text: str) -> list[str]:
    """What of the canary stands in a text, in any of its forms."""
    forms = [*PARTS, PARTS[0][:6], PARTS[1][-6:], BASIC[4:20], BASIC[-12:], CANARY[::-1]]
    forms += [CANARY.encode().hex(), base64.b64encode(CANARY.encode()).decode()[:16]]
    lowered = text.lower()
    return [form for form in forms if form.lower() in lowered]


def repeat_in_reason(request: Request) -> bytes:
    said = " ".join(request.raw.decode("latin-1").split())
    return f"HTTP/1.1 401 {said}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")


def repeat_in_headers(request: Request) -> bytes:
    said = " ".join(request.raw.decode("latin-1").split())
    return (
        f"HTTP/1.1 401 No\r\nWWW-Authenticate: {said}\r\nServer: {said}\r\nContent-Length: 0\r\n\r\n"
    ).encode("latin-1")


def repeat_in_page(status: int, before: int = 0) -> Callable[[Request], bytes]:
    def reply(request: Request) -> bytes:
        said = "x" * before + " ".join(request.raw.decode("latin-1").split())
        head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(said)}\r\n\r\n"
        return (head + said).encode("latin-1")

    return reply


def repeat_cut(status: int) -> Callable[[Request], bytes]:
    """Repeat the canary alone so that a cut at 200 characters goes through it."""

    def reply(_: Request) -> bytes:
        said = "x" * (200 - len(CANARY) // 2) + CANARY + " and more"
        head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(said)}\r\n\r\n"
        return (head + said).encode()

    return reply


def repeat_in_location(request: Request) -> bytes:
    # What it was asked for, and what it was asked with, somewhere else.
    login = (request.header("Authorization") or "").replace(" ", "+")
    to = f"http://elsewhere.invalid{request.target}&as={login}&c={CANARY}"
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


def repeat_garbage(request: Request) -> bytes:
    return b"SSH-2.0 " + request.raw.replace(b"\r\n", b" ") + b"\r\n"


REPLIES: dict[str, Callable[[Request], bytes]] = {
    "reason": repeat_in_reason,
    "headers": repeat_in_headers,
    "page": repeat_in_page(500),
    "forbidden": repeat_in_page(403),
    "busy": repeat_in_page(503, 150),
    "cut": repeat_cut(500),
    "location": repeat_in_location,
    "garbage": repeat_garbage,
    "ready": repeat_in_page(200),
}


def greet(before: int = 0) -> Behaviour:
    """Repeat what was sent, from the secret on and behind so many characters."""

    def behave(connection: Connection) -> None:
        said = connection.read()
        start = max(said.find(secret.encode()) for secret in (CANARY, BASIC))
        said = said[max(0, start) :]
        connection.write(b"220 " + b"x" * before + said)
        with suppress(OSError):
            connection.socket.shutdown(socket.SHUT_WR)
        hang(connection)

    return behave


@dataclass
class Bench:
    """Targets with the canary, the environment they need, and servers that repeat it."""

    targets: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def bench(authority: Authority, tmp_path: Path) -> Iterator[Bench]:
    """Every place of a secret, against every way to repeat it."""
    made = Bench(env={"THE_PASSWORD": CANARY})
    secret = tmp_path / "secret"
    secret.write_text(f"{CANARY}\n")
    with ExitStack() as stack:
        pages = stack.enter_context(ScriptedHTTP())
        secure = stack.enter_context(ScriptedHTTP(tls=TLS(authority.issue())))
        for name, reply in REPLIES.items():
            for each in (pages, secure):
                each.on(f"/{name}", reply)
            plain, tls = f"{pages.host}:{pages.port}", f"localhost:{secure.port}"
            path = f"/{name}?token={CANARY}&b={CANARY}"
            made.targets += [
                f"http://user:{CANARY}@{plain}/{name}?x=1",
                f"http://{plain}{path}",
                f"http://{plain}{path}#contains=no#redirects=any",
                f"http://{plain}{path}#json=status:UP",
                f"http://{plain}/{name}?y=1#header={BEARER}",
                f"http://{plain}/{name}?y=2#header=X-Key: {CANARY}#header=Cookie: s={CANARY}",
                f"http://{plain}/{name}?y=3#header-file=X-Key={secret}",
                f"http://{plain}/{name}?y=4#token-file={secret}",
                f"http://{plain}/{name}?y=5#user=user#password-file={secret}",
                f"http://{plain}/{name}?y=6#user=user#password-env=THE_PASSWORD",
                f"http://nowhere.invalid/{name}#proxy=http://user:{CANARY}@{plain}",
                f"https://user:{CANARY}@{tls}{path}#ca={authority.file}",
                # Not trusted: the handshake fails.
                f"https://user:{CANARY}@{tls}{path}",
            ]
        greeting = stack.enter_context(Server(greet()))
        # So that a cut at sixty characters goes through it.
        cut = stack.enter_context(Server(greet(56 - len(CANARY) // 2)))
        silent = stack.enter_context(Server(hang))
        refusing = stack.enter_context(Server(hang, opened=False))
        asking = stack.enter_context(Server(answer(b"\n", b"unknown")))
        for port in (greeting.port, cut.port, silent.port, refusing.port, asking.port):
            made.targets += [
                f"tcp://127.0.0.1:{port}#send=AUTH {CANARY}\\r\\n#expect=never",
                f"tcp://127.0.0.1:{port}#send=AUTH {CANARY}\\r\\n",
                f"http://user:{CANARY}@127.0.0.1:{port}/?q={CANARY}",
                f"https://user:{CANARY}@127.0.0.1:{port}/?q={CANARY}",
            ]
        ports = (greeting.port, cut.port, silent.port, refusing.port, asking.port)
        made.targets += list(of_schemes(ports, secret))
        for recording in all_recordings():
            for text in with_canary(recording, secret):
                behaviour = replay(recording, plant, tls=shown(authority))
                planted = stack.enter_context(Server(behaviour))
                made.targets.append(at(text, planted.address, authority, CANARY))
        made.targets += [
            f"http://user:{CANARY}@name.invalid/?token={CANARY}",
            f"http://127.0.0.1:1/?y=7#user=user#password-file={tmp_path}/missing",
        ]
        yield made


# How an option holds a secret, by the shape of its value.
SECRET = {
    "PATH": "{secret}",
    "NAME=PATH": "x-key={secret}",
    "NAME": "THE_PASSWORD",
    "NAME: VALUE": f"x-key: {CANARY}",
    "TEXT": f"AUTH {CANARY}\\r\\n#expect=never",
    "http://HOST:PORT": f"http://user:{CANARY}@{{place}}",
}


def secrets(scheme: Scheme, secret: Path, place: str) -> Iterator[str]:
    """Each option of a scheme that is a secret or says where one is, with the canary for it."""
    for option in scheme.options:
        if is_secret(option):
            user = "#user=user" if option.name.startswith("password-") else ""
            yield f"{user}#{option.name}={SECRET[option.kind.shape].format(secret=secret, place=place)}"


def is_secret(option: Option) -> bool:
    """Whether the value is a secret, or where one is found."""
    return option.secret or option.kind is VARIABLE or option.name.endswith("-file")


def of(name: str) -> Scheme:
    scheme = schemes.load(name)
    assert scheme is not None
    return scheme


def of_schemes(ports: Sequence[int], secret: Path) -> Iterator[str]:
    """Every secret that a scheme's target may have, at servers that know nothing of its protocol."""
    for name in schemes.BUILT_IN:
        scheme = of(name)
        for port in ports:
            if scheme.option("password-file") is not None:
                yield f"{name}://user:{CANARY}@127.0.0.1:{port}"
            for given in secrets(scheme, secret, f"127.0.0.1:{port}"):
                yield f"{name}://127.0.0.1:{port}{given}"


def plant(said: bytes) -> bytes:
    """Put the canary wherever a server says something that people could be shown."""
    return re.sub(
        rb"[ -~]{%d,}" % len(CANARY),
        lambda text: CANARY.encode() + text[0][len(CANARY) :],
        said,
    )


def with_canary(recording: Recording, secret: Path) -> Iterator[str]:
    """A recording's target with the canary in each place that its scheme has for a secret, one at a time."""
    scheme = recording.scheme
    rest, *options = recording.target.partition("{place}")[2].split("#")
    for given in options:
        option = scheme.option(given.partition("=")[0])
        assert option is not None
        if not is_secret(option):
            rest += f"#{given}"
    if scheme.option("password-file") is not None:
        yield f"{scheme.name}://user:{CANARY}@{{place}}{rest}"
    for given in secrets(scheme, secret, "{place}"):
        yield f"{scheme.name}://{{place}}{rest}{given}"
    if "{kubeconfig}" in rest:
        # The file has the canary for its token.
        yield recording.target


OUTPUTS = {
    "plain": ["--output=plain", "-v"],
    "changes": ["--output=plain"],
    "json": ["--output=json", "-v"],
    "live": ["--output=live"],
    "quiet": ["-q"],
}


def groups(targets: list[str]) -> list[str]:
    """The same targets as members of a group."""
    members = [one.replace("%", "%25").replace(",", "%2C").replace(")", "%29") for one in targets]
    return [f"quorum({', '.join(members)})", f"not(any({members[0]}, {members[1]}))"]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("end", ["timeout", "signal"])
def test_outputs(output: str, end: str, bench: Bench, tmp_path: Path) -> None:
    """fault 68: no output of a gate, nor the termination log, has any of it, however it ends."""
    log = tmp_path / "log"
    log.touch()
    targets = bench.targets
    words = [*OUTPUTS[output], f"--termination-log={log}", *targets, *groups(targets[:12])]
    options: dict[str, object] = {"env": bench.env}
    if output == "live":
        options["tty"] = (200, 300)
    limit = "6s" if end == "timeout" else "50s"
    with Gate(*words, f"--timeout={limit}", **options) as gate:  # type: ignore[arg-type]
        if end == "signal":
            while not log.read_text() and gate.running():
                os.sched_yield()
            gate.wait_output("", 5)
            gate.signal(15)
        done = gate.wait()
    assert done.status == (124 if end == "timeout" else 143), done.stderr[-3000:]
    shown = {"stdout": done.stdout, "stderr": done.stderr, "termination log": log.read_text()}
    assert {name: found(text) for name, text in shown.items()} == {name: [] for name in shown}
    if output in ("plain", "json") and end == "timeout":
        # The test is worth nothing if the servers were not reached.
        assert (done.stdout + done.stderr).count("***") > 50


@pytest.mark.parametrize("source", ["file", "variable"])
def test_sources(source: str, bench: Bench, tmp_path: Path) -> None:
    """fault 68: targets from a file and from PRECHECK_TARGETS are masked as those of the command line."""
    text = "\n".join(bench.targets[:60])
    listed = tmp_path / "listed"
    listed.write_text(text)
    env = bench.env | ({"PRECHECK_TARGETS": text} if source == "variable" else {})
    words = ["--from", str(listed)] if source == "file" else []
    done = run(*words, "-v", "--timeout=2s", env=env)
    assert done.status == 124
    assert (found(done.stdout), found(done.stderr)) == ([], [])


@pytest.mark.parametrize("verb", [("check",), ("check", "--output=json"), ("explain",)])
def test_toolbox(verb: tuple[str, ...], bench: Bench) -> None:
    """fault 68: `precheck check` and `precheck explain` show no more than the gate."""
    done = run(*verb, *bench.targets, command=TOOLBOX, env=bench.env)
    assert done.status in (0, 1), done.stderr
    assert len(done.stdout) > 1000
    assert (found(done.stdout), found(done.stderr)) == ([], [])


# What is sent as it stands; whether a password is depends on the protocol. Kube's stands in its own file.
SENT = [
    (name, given)
    for name in schemes.BUILT_IN
    for given in secrets(of(name), Path("{secret}"), "{place}")
    if "#password-" not in given
] + [("kube", "#kubeconfig={kubeconfig}")]


@pytest.mark.parametrize(("name", "given"), SENT)
def test_each_alone(name: str, given: str, authority: Authority, tmp_path: Path) -> None:
    """fault 68: each secret that is sent is masked by itself, where no other target has it too."""
    secret = tmp_path / "secret"
    secret.write_text(f"{CANARY}\n")
    form = of(name).form
    text = f"{name}://{'cm/a' if form == 'object' else '{place}'}{given}#attempt-timeout=500ms"
    text = text.replace("{secret}", str(secret))
    with ExitStack() as stack:
        targets = []
        for behaviour in (greet(), Scripted(status(16, CANARY))):
            plain = stack.enter_context(Server(behaviour))
            secure = stack.enter_context(Server(behaviour, tls=shown(authority)))
            targets.append(at(text, plain.address, authority, CANARY))
            trust = "" if of(name).option("ca") is None else "#ca={ca}"
            targets.append(at(text + trust, secure.address, authority, CANARY))
        done = run("check", *targets, command=TOOLBOX, env={"THE_PASSWORD": CANARY})
    assert done.status == 1, done.stderr
    assert (found(done.stdout), found(done.stderr)) == ([], [])
    # The test is worth nothing if it was not repeated.
    assert "***" in done.stdout, done.stdout


MALFORMED = [
    *(
        "http://user:{c}@[::1",
        "htp://user:{c}@web",
        "http://user:{c}@web:99999/",
        "user:{c}@web:80",
    ),
    *(
        "http://user:{c}@web/ x",
        "http://user:{c}@/",
        "http://user:{c}@b\u00fccher/",
        "//user:{c}@web",
    ),
    *("dns://user:{c}@web", "tcp://user:{c}@web:80", "tls://user:{c}@web", "http//user:{c}@web"),
    *("http://web/?token={c}#nosuch=1", "http://web/?token={c}#status=abc", "http://web/%zz?t={c}"),
    *("http://web/?a=1&token={c} x", "http:/web/?token={c}", "web:80/?token={c}", "web?token={c}"),
    *("http://web/#heder=Authorization: {c}", "http://web/#header={c}", "http://web/#header=: {c}"),
    *("http://web/#header=Bad Name: {c}", "http://web/#header=X: a\x07{c}", "web#header=X: {c}"),
    *("http://web/#password={c}", "http://web/#user=user:{c}", "http://web/#token={c}"),
    *("http://web/#proxy=user:{c}@proxy:1", "http://web/#proxy=https://user:{c}@proxy:1"),
    "http://web/#proxy=http://user:{c}@proxy:99999",
    *("tcp://web:1#sned={c}", "tcp://web:1#send=\\x{c}", "tcp://web:1#send={c}#send={c}"),
    *("any(http://user:{c}@web", "any(http://user:{c}@web, htp://x)", "any(http://user:{c}@web) x"),
    *("atleast(9, http://user:{c}@web)", "not(http://user:{c}@a, http://b)", "all(http://a, )"),
    *("http://user:{c}\x00@web", "http://user:{c}\x1b[31m@web", "http://user:{c}\u202e@web"),
    *("http://user:pa#{c}@web/", "http://user:pa/{c}@web/", "http://user:pa?{c}@web/"),
    *("http://user:pa@{c}@web:x/", "http://user:%{c}@web/", "http://user:$({c})@web/"),
    *("any(a:80, http://user:{c})", "any(http://u:p@a, http://user:{c})", "mysql://h#{c}"),
    *("any(etcd://a#alarms, http://user:{c})", "any(etcd://a#alarm, http://user:{c})"),
    *("mysql://app:pa#{c}#role=primary", "mysql://u:{c}@h#galeria", "etcd://u:{c}@h#alarm={c}"),
    *("jdbc:mysql://u:{c}@h/db", "jdbc:mysql://h/db?user=u&password={c}", "jdbc:{c}://h/db"),
    *("jdbc:mysql://h:{c}/db", "u:jdbc:mysql://{c}@h", "postgresql://u:{c}@a,b/x?y={c}#role=x"),
    *("http://{c}:{c}@web:99999/", "http://u:{c}@{c}:99999/{c}", "mysql://u:{c}@h/{c}/x"),
    *("redis://u:{c}@h#tls", "redis://h#ca={c}@x", "postgresql://u@h/x?sslrootcert={c}"),
    *("mysql://u@h/x/y?tls={c}", "u:{c},b:1", "u:{c}@a,b:1"),
    "http://user:{c}@" + "w" * 70_000,
    "http://web/?token={c}&x=" + "w" * 70_000,
    "any(" * 40 + "http://user:{c}@web",
]


@pytest.mark.parametrize("program", ["gate", "check", "explain"])
def test_malformed_targets(program: str, tmp_path: Path) -> None:
    """fault 68: what is wrong with a target is told without the secret in it."""
    log = tmp_path / "log"
    env = {"PRECHECK_TERMINATION_LOG": str(log)}
    start = {} if program == "gate" else {"command": TOOLBOX}
    verb = ["--timeout=300ms"] if program == "gate" else [program]
    mistakes = 0
    for number, text in enumerate(MALFORMED):
        log.write_text("")
        target = text.replace("{c}", CANARY)
        if "\0" in target:
            listed = tmp_path / "listed"
            listed.write_text(target)
            words = [*verb, "--from", str(listed)]
        else:
            words = [*verb, target]
        done: Finished = run(*words, env=env, **start)  # type: ignore[arg-type]
        shown = done.stdout + done.stderr + log.read_text()
        assert found(shown) == [], (number, target[:100], shown[:400])
        mistakes += done.status == 2
    # A few are odd and yet no mistake.
    assert mistakes > 0.8 * len(MALFORMED)


def test_help_and_unknown_options() -> None:
    """fault 68: a secret behind an option that does not exist is not repeated."""
    for words in (
        [f"--password={CANARY}"],
        [f"--timeout={CANARY}", "localhost"],
        ["--header", f"X: {CANARY}"],
        [f"-p{CANARY}"],
    ):
        done = run(*words)
        assert done.status == 2
        if words[0] not in ("--header", f"--timeout={CANARY}", f"-p{CANARY}"):
            assert found(done.stderr) == [], done.stderr


def test_traceback() -> None:
    """fault 68: a defect of our own shows a traceback without the secrets in it."""
    script = (
        "import sys; sys.path.insert(0, {!r}); from service_precheck import start; "
        "from service_precheck.probes import http\n"
        "def broken(*given): raise RuntimeError('while asking with ' + sys.argv[1])\n"
        "http._connect = broken; start.main()"
    )
    command = [sys.executable, "-IS", "-c", script.format(str(SOURCE))]
    done = run(f"http://user:{CANARY}@127.0.0.1:1/?token={CANARY}", command=command)
    assert done.status == 70
    assert "RuntimeError: while asking with http://user:***@" in done.stderr
    assert found(done.stderr) == []


def test_the_parts_are_looked_for() -> None:
    """The search finds what it is to find."""
    assert found(f"a {CANARY} b")
    assert found(f"a {CANARY[:8]}")
    assert found(BASIC)
    assert not found(re.sub(".", "*", CANARY))
