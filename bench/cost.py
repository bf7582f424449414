"""What one look costs: cpu and peak memory to exit with a target that holds, and under a cpu limit."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.launch import FLOOR, PYTHON, Launcher
from bench.results import MEBI, MILLI, Goal, Row
from bench.rivals import (
    BARE,
    GATE,
    GETADDRINFO,
    NAME,
    NSLOOKUP,
    PAGE,
    PIP,
    PORT,
    WAIT4X,
    WAIT_FOR_IT,
    Field,
)
from bench.scene import HOST, Pod, Ports, pod
from tests.bed.limits import Cgroup
from tests.bed.tls import Authority
from tests.bed.webservers import Nginx

SYSTEM_ROOTS = Path("/etc/ssl/certs")
BUNDLE = "ca-certificates.crt"
HOLDING = "db-0.db.shop"

Words = list[str]
# The words of each rival, and what it finds in its environment.
Case = tuple[dict[str, Words], dict[str, dict[str, str]]]


def cost(field: Field, *, quick: bool) -> Iterator[Row]:
    """CPU and peak memory of each kind of target, rivals in turn."""
    rounds = 9 if quick else 41
    with cases(field) as (scene, found):
        # What a meter's own fork leaves in a child that needs nothing.
        floor = scene.launcher.run(FLOOR).peak * MEBI
        note = f"Peak memory below {floor:.1f} MiB cannot be told from the meter's own."
        for key, (title, (rivals, env), cpu_goal, memory_goal) in found.items():
            cpu, peak = measured(scene.launcher, rivals, env, rounds)
            yield Row(f"cpu/{key}", f"cpu, {title}", "ms", cpu, *cpu_goal)
            yield Row(
                f"memory/{key}", f"peak memory, {title}", "MiB", peak, *memory_goal, note=note
            )


def measured(
    launcher: Launcher,
    rivals: Mapping[str, Words],
    env: Mapping[str, Mapping[str, str]],
    rounds: int,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """CPU (ms) and peak memory (MiB) of each, in rounds whose order turns."""
    cpu: dict[str, list[float]] = {name: [] for name in rivals}
    peak: dict[str, list[float]] = {name: [] for name in rivals}
    names = list(rivals)
    for name, words in rivals.items():
        launcher.run(words, env=env.get(name))
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            run = launcher.run(rivals[name], env=env.get(name))
            cpu[name].append(run.cpu * MILLI)
            peak[name].append(run.peak * MEBI)
    return cpu, peak


@contextlib.contextmanager
def cases(
    field: Field,
) -> Iterator[tuple[Pod, dict[str, tuple[str, Case, list[Goal], list[Goal]]]]]:
    """Each kind of target in a world where it holds: its title, the words of each rival, goals."""
    with contextlib.ExitStack() as stack:
        scene = stack.enter_context(pod())
        ports = stack.enter_context(Ports(scene.world, 1))
        ports.open(0)
        scene.publish(HOLDING)
        authority = stack.enter_context(Authority())
        nginx = stack.enter_context(
            Nginx(
                "location = /healthz { return 200 ok; }",
                certificate=authority.issue(HOST),
                host=HOST,
                place=scene.world,
            )
        )
        roots = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-roots-")))
        page, secure = f"{nginx.url}/healthz", f"{nginx.https_url}/healthz"
        bare = {BARE: [PYTHON, "-IS", "-c", "pass"]}
        pages = (GATE, WAIT4X, PIP)

        def words(kind: str, target: str, *names: str) -> dict[str, Words]:
            return {name: command(target) for name, command in field.of(kind, *names).items()}

        named = words(NAME, HOLDING, GATE, WAIT4X, PIP, NSLOOKUP, GETADDRINFO)
        ported = words(PORT, ports.address(0), GATE, WAIT4X, PIP, WAIT_FOR_IT)
        # Where it is known that the one authority signs, and as most have it: with all public roots.
        own = words(PAGE, f"{secure}#ca={authority.file}", *pages)
        public = words(PAGE, secure, *pages)
        lean = [Goal(0.6, WAIT4X)]
        found: dict[str, tuple[str, Case, list[Goal], list[Goal]]] = {
            "name": ("a name", (named | bare, {}), [Goal(1.0, WAIT4X)], lean),
            "port": ("a port", (ported, {}), [Goal(1.0, WAIT4X)], lean),
            "page": ("a page", (words(PAGE, page, *pages), {}), [Goal(1.2, WAIT4X)], lean),
            "https-ca": (
                "a page by TLS, own authority",
                (own, {}),
                [Goal(1.2, WAIT4X)],
                [Goal(0.85, WAIT4X)],
            ),
        }
        if SYSTEM_ROOTS.joinpath(BUNDLE).exists():
            found["https-roots"] = (
                "a page by TLS, public roots",
                (public, public_roots(roots, authority)),
                [Goal(1.2, WAIT4X)],
                [Goal(0.85, WAIT4X)],
            )
        yield scene, found


def public_roots(folder: Path, authority: Authority) -> dict[str, dict[str, str]]:
    """The machine's public roots and the test's own, as each finds them in its own image.

    For the gate that is a folder of hashed names and no bundle, for Go one bundle and no folder.
    """
    hashed, bundle = folder / "hashed", folder / "bundle.pem"
    shutil.copytree(
        SYSTEM_ROOTS, hashed, ignore=lambda _dir, names: [n for n in names if n == BUNDLE]
    )
    for file in authority.directory.iterdir():
        shutil.copy(file, hashed)
    bundle.write_text((SYSTEM_ROOTS / BUNDLE).read_text() + authority.file.read_text())
    none = str(folder / "none")
    ours = {"SSL_CERT_FILE": none, "SSL_CERT_DIR": str(hashed)}
    return {GATE: ours, PIP: ours, WAIT4X: {"SSL_CERT_FILE": str(bundle), "SSL_CERT_DIR": none}}


def limits(field: Field, *, quick: bool) -> Iterator[Row]:
    """Time to exit with a port that holds, under limits of cpu as pods have them."""
    rounds = 3 if quick else 9
    with pod() as scene, Ports(scene.world, 1) as ports:
        ports.open(0)
        rivals = field.of(PORT, GATE, WAIT4X, PIP, WAIT_FOR_IT)
        for share, text in ((0.1, "10%"), (0.01, "1%")):
            times: dict[str, list[float]] = {name: [] for name in rivals}

            def one(command: Callable[[str], Words], share: float = share) -> float:
                # A group of its own, so that none starts with what another has used up.
                with Cgroup(cpu=share) as group:
                    groups = list(group.folders.values())
                    run = scene.launcher.run(command(ports.address(0)), groups=groups)
                return (run.ended - run.began) * MILLI

            for _ in range(rounds):
                for name, command in rivals.items():
                    times[name].append(one(command))
            key = f"limit/{text.rstrip('%')}"
            yield Row(key, f"start to exit with {text} of a cpu, a port that holds", "ms", times)
