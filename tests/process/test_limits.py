"""Little memory, little cpu, few threads, few descriptors, odd rights: the verdicts stay right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bed.limits import PID1, Cgroup
from tests.bed.names import ScriptedDNS
from tests.bed.pages import ScriptedHTTP, page
from tests.bed.process import SOURCE, Gate, Wrapper, need_root, run
from tests.bed.sockets import Full, Server, hang
from tests.bed.tls import TLS, Authority
from tests.bed.world import Etc, World, resolv_conf

# Debian's interpreter, which the image has; where it is too old or not there, the suite's own.
_RECENT = ["/usr/bin/python3", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
try:
    PYTHON = sys.executable if subprocess.call(_RECENT) else _RECENT[0]
except OSError:
    PYTHON = sys.executable
SCRIPT = (
    f"import sys; sys.path.insert(0, {str(SOURCE)!r}); sys.argv[0] = 'service-precheck'; "
    "from service_precheck.start import main; main()"
)
DEBIAN = [PYTHON, "-IS", "-c", SCRIPT]


@pytest.fixture
def closed() -> Iterator[str]:
    """A port that refuses for as long as the test runs."""
    with Server(hang, opened=False) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def open_port() -> Iterator[str]:
    """A port that accepts."""
    with Server(hang) as server:
        yield f"127.0.0.1:{server.port}"


def test_sixteen_mebibytes(open_port: str, authority: Authority) -> None:
    """fault 40: names, ports, pages and TLS within 16 MiB, kernel memory counted."""
    with ExitStack() as stack:
        pages = stack.enter_context(ScriptedHTTP())
        pages.on("/", page(200, b"x" * 100_000))
        secure = stack.enter_context(ScriptedHTTP(tls=TLS(authority.issue())))
        secure.on("/", page(200))
        names = stack.enter_context(ScriptedDNS())
        names.add("db.shop", "A", "10.0.0.1")
        targets = [
            *("localhost", f"dns://db.shop#server=127.0.0.1:{names.port}", open_port, pages.url),
            f"https://localhost:{secure.port}/#ca={authority.file}",
            *("exec:///bin/true", "file:///etc/passwd"),
        ]
        group = stack.enter_context(Cgroup(memory=16 << 20))
        done = run(*targets, command=DEBIAN, inside=[group])
        assert (done.status, group.peak <= 16 << 20) == (0, True), done.stderr


@pytest.mark.parametrize("share", [0.1, 0.05])
def test_little_cpu(share: float, open_port: str, closed: str) -> None:
    """fault 41: with a tenth and a twentieth of a cpu it opens, gives up, and ends at a signal."""
    with Cgroup(cpu=share) as group:
        assert run("localhost", open_port, command=DEBIAN, inside=[group]).status == 0
        done = run(open_port, closed, "--timeout=2s", command=DEBIAN, inside=[group])
        assert done.status == 124
        assert f"{closed} refused the connection [refused]" in done.stderr
        with Gate(closed, command=DEBIAN, inside=[group]) as gate:
            gate.wait_output("[refused]")
            gate.signal(signal.SIGTERM)
            assert gate.wait(20).status == 143


def test_little_cpu_and_something_that_comes(closed: str) -> None:
    """fault 41: throttled, it still notices what comes up, and confirms what held before."""
    with Cgroup(cpu=0.05) as group, Server(hang, opened=False) as server, Server(hang) as other:
        targets = [f"127.0.0.1:{server.port}", f"127.0.0.1:{other.port}"]
        with Gate(*targets, command=DEBIAN, inside=[group]) as gate:
            gate.wait_output("[refused]")
            server.open_after(2.0)
            assert gate.wait().status == 0


def test_read_only_root(open_port: str) -> None:
    """fault 42: on a root that cannot be written to, without a place for temporary files."""
    need_root("a mount namespace")
    if SOURCE.stat().st_dev != Path("/").stat().st_dev:
        pytest.skip("needs the sources on the root file system")
    steps = (
        *("mount --bind / /mnt", "mount -o remount,ro,bind /mnt", "mount -t proc proc /mnt/proc"),
        *("mount --rbind /dev /mnt/dev", 'exec chroot /mnt "$@"'),
    )
    words = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", " && ".join(steps), "sh"]
    touch = run(command=[*words, "touch", "/precheck-was-here"])
    assert "Read-only" in touch.stderr
    done = run("localhost", open_port, command=[*words, *DEBIAN])
    assert done.status == 0, done.stderr


@pytest.mark.parametrize("user", [12345, 2**31 - 2])
def test_user_without_a_name(user: int, open_port: str, closed: str, tmp_path: Path) -> None:
    """fault 43: under an id that no passwd file knows, without a home; `exec` too."""
    log = tmp_path / "log"
    log.touch()
    done = run(open_port, "localhost", "--", "id", "-u", command=DEBIAN, user=user, cwd="/")
    assert (done.status, done.stdout) == (0, f"{user}\n")
    words = [closed, "--timeout=200ms", f"--termination-log={log}"]
    assert run(*words, command=DEBIAN, user=user).status == 124


def test_no_rights_at_all(open_port: str) -> None:
    """fault 43: without any capability, and with no-new-privileges."""
    need_root("another user")
    words = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    words += ["--reuid=12345", "--regid=12345", "--clear-groups"]
    assert run(open_port, "localhost", command=[*words, *DEBIAN]).status == 0


@pytest.mark.parametrize("more", [0, 1, 3])
def test_few_threads(more: int, open_port: str, closed: str) -> None:
    """fault 10b: with no thread to be had, or a few, targets take turns, and each verdict is right."""
    with ExitStack() as stack:
        ports = [f"127.0.0.1:{stack.enter_context(Server(hang)).port}" for _ in range(8)]
        group = stack.enter_context(Cgroup(pids=1 + more))
        done = run(*ports, "localhost", command=DEBIAN, inside=[group])
        assert done.status == 0, done.stderr
        words = [*ports, closed, "--timeout=1500ms"]
        done = run(*words, command=DEBIAN, inside=[group])
    assert done.status == 124
    assert f"{closed} refused the connection [refused]" in done.stderr
    assert f"waits for its turn: {more} threads could be started, no more" in done.stderr
    assert "[local]" in done.stderr
    for port in ports:
        assert f"ready: {port} accepts" in done.stderr


def test_few_threads_and_a_signal(closed: str) -> None:
    """fault 10b, fault 38: without a thread the attempts run where signals are taken: they still end it."""
    with Cgroup(pids=1) as group, Full() as full:
        with Gate(f"127.0.0.1:{full.port}", closed, command=DEBIAN, inside=[group]) as gate:
            time.sleep(0.5)
            gate.signal(signal.SIGTERM)
            assert gate.wait(5).status == 143


@pytest.mark.parametrize("limit", range(4, 12))
def test_few_descriptors(limit: int, open_port: str, closed: str) -> None:
    """fault 10: too few descriptors mean `local` and taking turns, never a wrong verdict."""
    with ExitStack() as stack:
        ports = [f"127.0.0.1:{stack.enter_context(Server(hang)).port}" for _ in range(20)]
        names = stack.enter_context(ScriptedDNS())
        names.add("db.shop", "A", "10.0.0.1")
        known = f"dns://db.shop#server=127.0.0.1:{names.port}"
        unknown = f"dns://nothing.shop#server=127.0.0.1:{names.port}"
        words = [*ports, "localhost", closed, known, unknown, "-v", "--timeout=1500ms"]
        limited = ["prlimit", f"--nofile={limit}", *DEBIAN]
        done = run(*words, command=limited)
    assert done.status == 124, done.stderr
    for line in done.stderr.splitlines():
        if "waiting: " not in line or "(attempt " not in line:
            continue
        cause = line.split("[")[-1].split("]")[0]
        expected = {"local"}
        if closed in line:
            expected |= {"refused"}
        if "nothing.shop" in line:
            expected |= {"name-not-found"}
        assert cause in expected, line


def test_descriptors_that_come_back() -> None:
    """fault 10: with room for a handful, twenty ports that all hold do open the gate: no leak."""
    with ExitStack() as stack:
        ports = [f"127.0.0.1:{stack.enter_context(Server(hang)).port}" for _ in range(20)]
        done = run(*ports, "localhost", command=["prlimit", "--nofile=10", *DEBIAN])
        assert done.status == 0, done.stderr


def test_no_descriptor_is_leaked(closed: str) -> None:
    """fault 10: hundreds of attempts of every kind later, as many descriptors are open as at first."""
    with ExitStack() as stack:
        hanging = stack.enter_context(Server(hang))
        names = stack.enter_context(ScriptedDNS())
        pages = stack.enter_context(ScriptedHTTP())
        pages.on("/", page(503))
        gate = stack.enter_context(
            Gate(
                *(closed, f"dns://x.shop#server=127.0.0.1:{names.port}", f"{pages.url}/"),
                f"tls://127.0.0.1:{hanging.port}#attempt-timeout=20ms",
                "exec:///bin/false",
                *("--interval=30ms", "-v"),
            )
        )
        gate.wait_output("(attempt 5)")
        counts = []
        for attempt in (20, 40):
            gate.wait_output(f"(attempt {attempt})")
            counts.append(min(len(gate.fds()) for _ in range(200)))
        # A few are in use at any moment; a leak would be of dozens.
        assert counts[1] < counts[0] + 8


def test_threads_are_made_on_demand(closed: str) -> None:
    """A lone target's first look takes the main thread, the next ones one more; N that are asked at once
    take N, 128 at most."""
    with Gate(closed) as gate:
        gate.wait_output("[refused]")
        end = time.monotonic() + 20
        while len(gate.threads()) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.2)
        assert len(gate.threads()) == 2
    with Full() as full:
        with Gate(f"127.0.0.1:{full.port}") as gate:
            time.sleep(0.5)
            assert len(gate.threads()) == 1
        for count, threads in ((7, 8), (300, 129)):
            targets = [f"127.0.0.1:{full.port}#name=n{n}" for n in range(count)]
            with Gate(*targets) as gate:
                end = time.monotonic() + 20
                while len(gate.threads()) < threads and time.monotonic() < end:
                    time.sleep(0.02)
                time.sleep(0.2)
                assert len(gate.threads()) == threads
                assert all(name.startswith("precheck-") for name in gate.threads()[1:])


def test_wall_clock_is_of_no_account() -> None:
    """fault 37: deadlines are the monotonic clock's: with the wall clock jumping an hour at each look,
    a wait of a second takes a second."""
    jumping = (
        "import time, itertools; jumps = itertools.count(1); real = time.time; "
        "time.time = lambda: real() + 3600 * next(jumps); "
        "time.gmtime = lambda *given: (2001, 2, 3, 4, 5, 6, 0, 0, 0); "
    )
    with Server(hang, opened=False) as server:
        command = [*DEBIAN[:-1], jumping + SCRIPT]
        started = time.monotonic()
        done = run(f"127.0.0.1:{server.port}", "--timeout=1s", command=command)
        assert done.status == 124
        assert time.monotonic() - started >= 1.0
        assert "gave up after 1 s" in done.stderr


def test_wall_clock_is_not_asked() -> None:
    """fault 37: no module of the gate asks for the wall clock but to print it or to read a certificate."""
    uses = {}
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        asked = [
            word for word in ("time.time(", "gmtime(", "localtime(", "time_ns(") if word in text
        ]
        if asked and "toolbox" not in path.parts:
            uses[path.relative_to(SOURCE / "service_precheck").as_posix()] = asked
    assert set(uses) <= {
        *("report/plain.py", "report/jsonlines.py", "report/live.py"),
        *("tls.py", "codecs/http1.py", "codecs/http/page.py", "codecs/http/fault.py"),
        "probes/file.py",
        # When the token of a kubeconfig's plugin runs out.
        "codecs/kube/plugin.py",
    }, uses


@pytest.mark.timeout(180)
def test_a_thousand_targets_in_48_mebibytes() -> None:
    """A thousand targets, nine hundred of them silent, within 48 MiB: each verdict is right."""
    with World("10.54.0.1") as world, ExitStack() as stack:
        world.drop("10.54.0.1")
        server = stack.enter_context(Server(hang, place=world))
        refusing = stack.enter_context(Server(hang, place=world, opened=False))
        targets = [f"10.54.0.1:{10_000 + n}#attempt-timeout=1s" for n in range(900)]
        targets += [f"127.0.0.1:{server.port}#name=open{n}" for n in range(50)]
        targets += [f"127.0.0.1:{refusing.port}#name=closed{n}" for n in range(50)]
        group = stack.enter_context(Cgroup(memory=48 << 20))
        inside: list[Wrapper] = [world, group]
        gate = stack.enter_context(
            Gate("--from", "-", command=DEBIAN, inside=inside, stdin=subprocess.PIPE)
        )
        gate.stdin.write("\n".join(targets).encode())
        gate.stdin.close()
        # They are asked in their order, so when the last of them has its verdict, all have.
        gate.wait_output("closed49", 100)
        gate.wait_output("10.54.0.1:10899 did not answer", 100)
        gate.signal(signal.SIGTERM)
        done = gate.wait()
        assert done.status == 143
        assert group.peak <= 48 << 20
    lines = [line for line in done.stderr.splitlines() if " waiting: " in line]
    silent = [line for line in lines if "10.54.0.1" in line]
    closed = [line for line in lines if ": closed" in line]
    opened = [line for line in done.stderr.splitlines() if " ready: open" in line]
    # A line that a pipe has no room for is left out.
    assert len(silent) > 850
    assert len(closed) > 40
    assert len(opened) > 40
    assert all("[connect-timeout]" in line for line in silent)
    assert all("[refused]" in line for line in closed)


@pytest.mark.timeout(180)
def test_a_thousand_of_which_any_will_do() -> None:
    """In 48 MiB, one that holds behind nine hundred and ninety-nine silent ones opens the gate."""
    with World("10.54.0.1") as world, Server(hang, place=world) as server:
        world.drop("10.54.0.1")
        members = ", ".join(f"10.54.0.1:{10_000 + n}" for n in range(999))
        with Cgroup(memory=48 << 20) as group:
            done = run(
                f"any({members}, 127.0.0.1:{server.port})",
                command=DEBIAN,
                inside=[world, group],
                timeout=120,
            )
        assert done.status == 0, done.stderr


def test_a_hundred_targets_cost_little(closed: str) -> None:
    """A hundred targets at their quickest take a share of a cpu, not one of their own."""
    with Server(hang, opened=False) as server:
        targets = [f"127.0.0.1:{server.port}#name=n{n}" for n in range(100)]
        done = run(*targets, "--timeout=6s", "-q", command=DEBIAN, metered=True)
    assert done.status == 124
    assert done.cpu < 5.0


def test_process_1_reaps_orphans() -> None:
    """As process 1 the gate takes away what its commands' children leave behind, and never a command
    that a probe waits for."""
    script = "(sleep 0.05 & ) ; (sleep 0.01 & ) ; exit 3"
    target = f"exec:///bin/sh#arg=-c#arg={script}#interval=20ms"
    with Gate(target, "-v", "--interval=20ms", inside=[PID1]) as gate:
        gate.wait_output("(attempt 12)")
        zombies = []
        for _ in range(50):
            children = Path(f"/proc/{gate.pid}/task/{gate.pid}/children").read_text().split()
            zombies.append(len(children))
            time.sleep(0.01)
        gate.signal(signal.SIGTERM)
        done = gate.wait()
    # One that runs, those that its last run left, and what no turn has come to yet.
    assert min(zombies) <= 2
    assert max(zombies) < 12
    attempts = [line for line in done.stderr.splitlines() if "(attempt " in line]
    assert all("ended with exit status 3" in line for line in attempts)


def test_process_1_does_not_steal_a_probes_child() -> None:
    """As process 1, with many commands at once, each gets its own status."""
    targets = [f"not(exec:///bin/sh#arg=-c#arg=exit {n})" for n in range(1, 30)]
    done = run(*targets, "exec:///bin/true", "-v", inside=[PID1])
    assert done.status == 0, done.stderr
    assert "taken by somebody else" not in done.stderr


def test_silence_of_a_thousand_threads_worth_of_work() -> None:
    """A worker stuck in a call holds nobody else: what holds is found while others hang."""
    with Server(hang) as server, Full() as full, Server(hang, opened=False) as late:
        silent = [f"127.0.0.1:{full.port}#name=s{n}" for n in range(60)]
        text = f"any(all({', '.join(silent)}), all(127.0.0.1:{server.port}, 127.0.0.1:{late.port}))"
        threading.Timer(0.5, late.open).start()
        done = run(text)
    assert done.status == 0


def test_resolver_of_a_pod(world: World) -> None:
    """The blog post's list in a pod's view: names that come up one after another."""
    zone = "default.svc.cluster.local"
    search = [zone, "svc.cluster.local", "cluster.local"]
    with (
        ScriptedDNS(host="10.53.0.2", port=53, place=world) as names,
        Etc(resolv_conf("10.53.0.2", search=search, options="ndots:5")) as etc,
        Gate("db-0.db", "db-1.db", inside=[world, etc], command=DEBIAN) as gate,
    ):
        gate.wait_output("waiting: db-1.db")
        names.negative_ttl = 0
        for n in range(2):
            names.add(f"db-{n}.db.{zone}", "A", f"10.22.0.{n + 1}")
            gate.wait_output(f"ready: db-{n}.db")
        assert gate.wait().status == 0


def test_attempts_are_exact() -> None:
    """The server is asked exactly as often as is said, and what holds exactly once."""
    with ScriptedHTTP() as pages:
        pages.on("/", page(503))
        pages.on("/ready", page(200))
        words = [f"{pages.url}/#name=down", f"{pages.url}/ready#name=up", "-v", "--timeout=1s"]
        done = run(*words)
        asked = [request.target for request in pages.requests]
    told = [line for line in done.stderr.splitlines() if "(attempt " in line]
    down = sum("waiting: down" in line for line in told)
    # One may be on its way when time runs out.
    assert down <= asked.count("/") <= down + 1
    assert (sum("ready: up" in line for line in told), asked.count("/ready")) == (1, 1)


def test_file_that_never_answers(tmp_path: Path) -> None:
    """A lone target whose certificates stand in a pipe that nobody writes still meets its time limit."""
    pipe = tmp_path / "ca"
    os.mkfifo(pipe)
    with Server(hang) as server:
        done = run(f"tls://localhost:{server.port}#ca={pipe}", "--timeout=500ms")
    assert done.status == 124
