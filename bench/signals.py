"""SIGTERM: when a gate that is process 1 begins to hear it, and how long it takes to end."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.launch import Failed
from bench.results import MILLI, Goal, Row
from bench.rivals import GATE, NAME, PAGE, PORT, WAIT4X, Field
from bench.scene import HOST, RESOLVER, SILENT, Pod, Ports, pod
from tests.bed.recording import Recording, all_recordings, at, replay, shown
from tests.bed.sockets import Behaviour, Connection, Server, hang
from tests.bed.tls import TLS, Authority

WITHIN = 200.0
# Seconds between two bytes: an attempt is over before the shortest of the answers is.
DRAWL = 0.3


def blind_window(field: Field, *, quick: bool) -> Iterator[Row]:
    """SIGTERM every tenth of a millisecond from exec on: until when is it dropped?"""
    rounds = 10 if quick else 60
    with pod() as scene, Ports(scene.world, 1) as ports:
        rivals = field.of(PORT, GATE, WAIT4X)
        took: dict[str, list[float]] = {rival: [] for rival in rivals}
        for _ in range(rounds):
            for rival, command in rivals.items():
                took[rival].append(flooded(scene.world.prefix, command(ports.address(0))) * MILLI)
    yield Row(
        "blind",
        "exec to end under a stream of SIGTERM, as process 1",
        "ms",
        took,
        note="An upper bound of the blind window: the way to the end is in it.",
    )


def flooded(prefix: Sequence[str], words: Sequence[str]) -> float:
    """Seconds from exec as process 1 to the end, SIGTERM coming all the time."""
    # A shell that waits for a line is process 1 first, so that the moment of exec is known.
    shell = ["/bin/sh", "-c", 'read _; exec "$@"', "sh", *words]
    with subprocess.Popen(
        [*prefix, "/usr/bin/unshare", "--pid", "--fork", "--kill-child", *shell],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    ) as outer:
        try:
            assert outer.stdin is not None
            inner = _child(outer.pid)
            ended = os.pidfd_open(inner)
            try:
                poll = select.poll()
                poll.register(ended, select.POLLIN)
                outer.stdin.write(b"\n")
                outer.stdin.flush()
                began = time.monotonic()
                while not poll.poll(0):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(inner, signal.SIGTERM)
                    time.sleep(0.0001)
                    if time.monotonic() - began > 30:
                        raise Failed(f"{' '.join(words)} never heard SIGTERM as process 1")
                return time.monotonic() - began
            finally:
                os.close(ended)
        finally:
            outer.kill()


def _child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for child in children.read_text().split():
            # Only once it is the shell has the kernel set its signals.
            with contextlib.suppress(OSError):
                if b"read _" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        time.sleep(0.001)
    raise Failed("unshare started nothing")


def sigterm(field: Field, *, quick: bool) -> Iterator[Row]:
    """SIGTERM at random moments of each phase, and how long until the process is gone."""
    rounds = 8 if quick else 60
    with (
        pod() as scene,
        Ports(scene.world, 1) as ports,
        Server(hang, host=HOST, place=scene.world) as mute,
        Authority() as authority,
    ):
        scene.world.drop(SILENT)
        closed, silent = ports.address(0), f"{SILENT}:80"
        phases = [
            ("between attempts", {n: c(closed) for n, c in field.of(PORT, GATE, WAIT4X).items()}),
            ("connecting", {n: c(silent) for n, c in field.of(PORT, GATE, WAIT4X).items()}),
            (
                "a page that never comes",
                {n: c(f"http://{mute.address}/") for n, c in field.of(PAGE, GATE, WAIT4X).items()},
            ),
            (
                "TLS handshake",
                {n: c(f"https://{mute.address}/") for n, c in field.of(PAGE, GATE, WAIT4X).items()},
            ),
            (
                "running a command",
                {n: c("exec:///bin/sleep#arg=60") for n, c in field.of(PORT, GATE).items()},
            ),
        ]
        many = [f"{SILENT}:{1000 + place}" for place in range(1000)]
        crowd = {}
        for name, command in field.of(PORT, GATE, WAIT4X).items():
            words = command("TARGETS")
            place = words.index("TARGETS")
            crowd[name] = [*words[:place], *many, *words[place + 1 :]]
        phases.append(("a thousand silent hosts", crowd))
        for text, rivals in phases:
            yield _phase(scene, text, rivals, rounds if "thousand" not in text else rounds // 4)
        scene.world.drop(RESOLVER)
        named = {n: c("db-0.db.shop") for n, c in field.of(NAME, GATE, WAIT4X).items()}
        yield _phase(scene, "behind a silent resolver", named, rounds)
        ask = field.of(PORT, GATE)[GATE]
        spoken: list[float] = []
        for recording in all_recordings():
            behaviour = _drawled(recording, shown(authority))
            with Server(behaviour, host=HOST, place=scene.world) as service:
                rivals = {GATE: ask(at(recording.target, service.address, authority))}
                spoken += _taken(scene, recording.name, rivals, rounds // 4)[GATE]
        yield _row("a service's answer, byte by byte", {GATE: spoken})


def _drawled(recording: Recording, tls: TLS) -> Behaviour:
    """A server that says to every client what it said in the recording, slower than anybody waits for."""

    def behave(connection: Connection) -> None:
        replay(recording, every=DRAWL, tls=tls)(connection)

    return behave


def _phase(scene: Pod, text: str, rivals: dict[str, list[str]], rounds: int) -> Row:
    return _row(text, _taken(scene, text, rivals, rounds))


def _row(text: str, took: dict[str, list[float]]) -> Row:
    goals = [Goal(WITHIN, subject=GATE, figure="max")]
    return Row(f"sigterm/{text}", f"SIGTERM to exit, {text}", "ms", took, *goals, paired=False)


def _taken(
    scene: Pod, text: str, rivals: dict[str, list[str]], rounds: int
) -> dict[str, list[float]]:
    """Milliseconds from SIGTERM to the end, for each rival."""
    took: dict[str, list[float]] = {rival: [] for rival in rivals}
    # A few at a time: what is measured is their end, not how they share two cores.
    for _ in range(max(1, rounds // 4)):
        runs = [
            (rival, scene.launcher.start(words))
            for rival, words in rivals.items()
            for _ in range(min(4, rounds))
        ]
        random.shuffle(runs)
        time.sleep(0.5)
        for rival, run in runs:
            time.sleep(random.uniform(0, 0.25))
            if run.status is not None:
                raise Failed(f"{text}: {rival} ended by itself: {scene.launcher.tail()}")
            at = scene.launcher.kill(scene.launcher.started(run), signal.SIGTERM)
            scene.launcher.ended(run)
            took[rival].append((run.ended - at) * MILLI)
    return took
