"""The image under runc, as a pod would run it: the post's manifests, the limits, the signals."""

from __future__ import annotations

import ast
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from service_precheck.toolbox import VERBS
from tests.bed.names import ScriptedDNS
from tests.bed.pages import ScriptedHTTP, page
from tests.bed.tls import TLS, Authority
from tests.bed.world import World, resolv_conf
from tests.image.containers import Container, Image

pytestmark = pytest.mark.timeout(300)

SOURCE = Path(__file__).parents[2] / "src/service_precheck"
RESOLVER = "10.96.0.10"
# What the kubelet writes for a pod of the namespace called "namespace".
RESOLV_CONF = resolv_conf(
    RESOLVER,
    search=["namespace.svc.cluster.local", "svc.cluster.local", "cluster.local"],
    options="ndots:5",
)
# The arguments of the post's two manifests, and the names that they stand for in the cluster.
POST = {
    "mysql": (["mysql-0.mysql.namespace", "mysql-read.namespace"]),
    "zookeeper": [f"zookeeper-{number}.zookeeper-headless.namespace" for number in range(3)],
}

Start = Callable[..., Container]
IMPORT_EACH = """
import importlib, sys
exec(open("/usr/bin/service-precheck").read().partition("from ")[0])
names = [*index, *sys.argv[1:]]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(index), "modules")
"""
THREAD_AT_EXIT = """
import _thread, time
_thread.start_new_thread(lambda: [time.sleep(0.0001) for _ in range(10_000_000)], ())
time.sleep(0.05)
"""


@pytest.fixture
def start(own_image: Image, root: Path, tmp_path: Path) -> Start:
    def make(*arguments: str, **options: object) -> Container:
        return Container(own_image, root, tmp_path, *arguments, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def world() -> Iterator[World]:
    with World(RESOLVER, "10.9.0.1") as made:
        yield made


@pytest.fixture
def cluster(world: World) -> Iterator[ScriptedDNS]:
    with ScriptedDNS(host=RESOLVER, port=53, place=world) as dns:
        yield dns


@pytest.fixture
def pod_files(tmp_path: Path) -> dict[str, Path]:
    """The files that the kubelet mounts into every container."""
    (tmp_path / "resolv.conf").write_text(RESOLV_CONF)
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    return {"/etc/resolv.conf": tmp_path / "resolv.conf", "/etc/hosts": tmp_path / "hosts"}


def termination_log(folder: Path) -> dict[str, Path]:
    path = folder / "termination-log"
    path.touch()
    path.chmod(0o666)
    return {"/dev/termination-log": path}


@pytest.mark.parametrize("names", POST.values(), ids=POST)
def test_the_posts_arguments_wait_for_their_names(
    names: list[str],
    start: Start,
    world: World,
    cluster: ScriptedDNS,
    pod_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    """The post's args hold the container until each of their names resolves, then it exits 0."""
    files = pod_files | termination_log(tmp_path)
    with start(*names, world=world, files=files, memory=16 << 20) as gate:
        for number, name in enumerate(names):
            asked = f"{name}.svc.cluster.local"
            until(partial(says, tmp_path / "termination-log", name), gate)
            assert cluster.count(asked) > 0
            cluster.add(asked, "A", f"10.1.0.{number + 1}")
        done = gate.wait()
    assert done.status == 0, done
    assert (tmp_path / "termination-log").read_text() == ""


@pytest.mark.parametrize("cpu", [0.1, 0.05], ids=["10%", "5%"])
@pytest.mark.parametrize("log", [True, False], ids=["termination-log", "no-termination-log"])
def test_waits_within_a_small_pods_limits(
    cpu: float,
    log: bool,
    start: Start,
    world: World,
    cluster: ScriptedDNS,
    pod_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    """Faults 40 to 43: 16 MiB, little cpu, a read-only root and any user are enough to wait."""
    name = "db.namespace"
    files = pod_files | (termination_log(tmp_path) if log else {})
    with start(
        name, world=world, files=files, memory=16 << 20, cpu=cpu, user=1_234_567_890
    ) as gate:
        until(lambda: cluster.count(f"{name}.svc.cluster.local") > 2, gate)
        assert gate.peak() <= 16 << 20
        cluster.add(f"{name}.svc.cluster.local", "A", "10.1.0.1")
        assert gate.wait().status == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_ends_by_a_signal_as_process_one(
    number: int,
    status: int,
    start: Start,
    world: World,
    cluster: ScriptedDNS,
    pod_files: dict[str, Path],
) -> None:
    """Fault 46b: as PID 1, where the kernel drops a signal without a handler, 143 and 130."""
    with start("never.namespace", world=world, files=pod_files) as gate:
        until(lambda: cluster.count("never.namespace.svc.cluster.local") > 0, gate)
        gate.signal(number)
        assert gate.wait().status == status


def test_ends_by_a_signal_behind_a_dead_resolver(
    start: Start, world: World, pod_files: dict[str, Path]
) -> None:
    """Faults 28 and 38: a resolver that never answers does not hold up SIGTERM."""
    world.drop(RESOLVER)
    with start("never.namespace", "-v", world=world, files=pod_files) as gate:
        gate.wait_output("never.namespace")
        gate.signal(signal.SIGTERM)
        assert gate.wait().status == 143


def test_a_mistake_is_told_at_once(start: Start) -> None:
    """A target that can never be one ends the container with 2, naming it."""
    with start("tpc://db:1") as gate:
        done = gate.wait()
    assert done.status == 2
    assert "tpc://db:1" in done.stderr


def test_connects_to_a_port(start: Start, world: World, pod_files: dict[str, Path]) -> None:
    """A literal address and port need no resolver; the gate opens once something listens."""
    with start("10.9.0.1:8080", world=world, files=pod_files) as gate:
        gate.wait_output("10.9.0.1:8080")
        listener = world.socket(socket.AF_INET, socket.SOCK_STREAM)
        with listener:
            listener.bind(("10.9.0.1", 8080))
            listener.listen()
            assert gate.wait().status == 0


def test_a_page_over_tls_within_16_mib(
    start: Start, world: World, pod_files: dict[str, Path], authority: Authority
) -> None:
    """Fault 40: TLS, the largest library in the image, and own roots mounted over the public ones."""
    pages = ScriptedHTTP(
        host="10.9.0.1", place=world, tls=TLS(authority.issue("10.9.0.1", "api.namespace"))
    )
    files = pod_files | {"/etc/ssl/certs": authority.directory}
    with pages:
        pages.on("/healthz", page(503), page(200, b"ok"))
        target = f"{pages.url}/healthz"
        with start(target, world=world, files=files, memory=16 << 20) as gate:
            done = gate.wait()
    assert done.status == 0, done
    assert len(pages.requests) >= 2


def test_both_commands_are_on_the_path(start: Start, own_image: Image) -> None:
    """The gate is the entrypoint; the toolbox and it say the version on the label."""
    version = own_image.config["config"]["Labels"]["org.opencontainers.image.version"]
    with start("--version") as gate:
        done = gate.wait()
    assert (done.status, version in done.stdout) == (0, True), done
    with start("--version", entrypoint=["precheck"]) as toolbox:
        done = toolbox.wait()
    assert (done.status, version in done.stdout) == (0, True), done


def test_a_running_gate_can_be_looked_into(
    start: Start, world: World, cluster: ScriptedDNS, pod_files: dict[str, Path]
) -> None:
    """`kubectl exec` needs no shell: the toolbox explains beside the gate, in the same 16 MiB."""
    name = "never.namespace"
    with start(name, world=world, files=pod_files, memory=16 << 20) as gate:
        until(lambda: cluster.count(f"{name}.svc.cluster.local") > 0, gate)
        explained = gate.execute("precheck", "explain", name)
        assert gate.running()
    assert explained.returncode == 0, explained.stderr
    assert f"{name}.svc.cluster.local" in explained.stdout


def test_every_module_imports(start: Start) -> None:
    """All of the package, and all that it imports anywhere, lazily too, is in the image."""
    sources = [path for path in SOURCE.rglob("*.py") if path.name != "demo_certificates.py"]
    names = {name for path in sources if path.name != "demo.py" for name in imported(path)}
    # What `wait_async` takes, which no command calls.
    names.remove("asyncio")
    # What reads a kubeconfig outside of pods: an extra, never needed in one.
    names.remove("yaml")
    with start("-IS", "-c", IMPORT_EACH, *sorted(names), entrypoint=["/usr/bin/python3"]) as python:
        done = python.wait()
    assert (done.status, done.stdout) == (0, f"{len(sources)} modules\n"), done


def test_every_verb_answers(start: Start) -> None:
    """Each verb of the toolbox tells its usage; the demo, which is not there, says where it is."""
    for verb in VERBS:
        with start(verb, "--help", entrypoint=["precheck"]) as toolbox:
            done = toolbox.wait()
        if verb == "demo":
            assert (done.status, "holds no demo" in done.stderr) == (2, True), done
        else:
            assert (done.status, verb in done.stdout, done.stderr) == (0, True, ""), done


def test_tls_trusts_the_public_roots(start: Start, own_image: Image) -> None:
    """OpenSSL finds a root by its hash, with nothing said about where."""
    roots = [name for name in own_image.entries() if name.startswith("etc/ssl/certs/")]
    code = (
        "import _ssl, os; _, _, _, folder = _ssl.get_default_verify_paths();"
        "context = _ssl._SSLContext(_ssl.PROTOCOL_TLS_CLIENT);"
        "context.set_default_verify_paths();"
        "print(len(os.listdir(folder)))"
    )
    with start("-IS", "-c", code, entrypoint=["/usr/bin/python3"]) as python:
        done = python.wait()
    assert (done.status, done.stdout) == (0, f"{len(roots)}\n"), done


def test_a_thread_outlives_the_interpreter(start: Start) -> None:
    """A daemonic thread that wakes while the interpreter ends does not abort the process."""
    with start("-IS", "-c", THREAD_AT_EXIT, entrypoint=["/usr/bin/python3"]) as python:
        done = python.wait()
    assert (done.status, done.stderr) == (0, ""), done


def test_nothing_can_be_written(start: Start) -> None:
    """Fault 42: what the tests call a read-only root without capabilities is one."""
    code = (
        "import os\n"
        "status = dict(line.split(':\\t') for line in open('/proc/self/status') if ':\\t' in line)\n"
        "print(os.getpid(), os.getuid(), status['CapBnd'].strip(), status['NoNewPrivs'].strip())\n"
        "for folder in ('/', '/etc', '/usr/lib/service-precheck'):\n"
        "    try:\n"
        "        open(f'{folder}/x', 'w')\n"
        "    except OSError as error:\n"
        "        print(folder, error.strerror)\n"
    )
    with start("-IS", "-c", code, entrypoint=["/usr/bin/python3"]) as python:
        first, *rest = python.wait().stdout.splitlines()
    assert first == "1 65532 0000000000000000 1"
    assert [line.partition(" ")[0] for line in rest] == ["/", "/etc", "/usr/lib/service-precheck"]


def says(path: Path, text: str) -> bool:
    return text in path.read_text()


def until(holds: Callable[[], bool], gate: Container) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert gate.running(), gate.wait()
        assert time.monotonic() < end, gate.stderr
        time.sleep(0.01)


def imported(path: Path) -> Iterator[str]:
    todo: list[ast.AST] = [ast.parse(path.read_bytes())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
