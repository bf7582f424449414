"""What `kubectl describe pod` shows of a gate that waits and of one that gave up: the page has it word by word."""

from __future__ import annotations

import re

import pytest

from tests.cluster.bed import IMAGES, ROOT, Namespace, until
from tests.cluster.test_basics import BUSYBOX, OURS

pytestmark = [pytest.mark.timeout(300)]

DESCRIBE = ("describe", "pod", "shop")
# What differs from run to run, and how it is written instead.
CHANGES = (
    (r"\w{3}, \d\d \w{3} \d{4} [\d:]+ \+0000", "DATE"),
    (r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME"),
    (r"\d+[smh](\d+s)? \(x\d+ over \w+\)", "1s"),
    (r"(?<=\s)\d+[smh](\d+s)?(?=\s)", "1s"),
    (r"\b10(\.\d+){3}\b", "10.0.0.1"),
    (r"node-\d", "node-1"),
    (r"\([0-9a-f]{8}-[0-9a-f-]+\)", "(UID)"),
    (r"-[a-z0-9]{8,10}-[a-z0-9]{5}(?![a-z0-9])", "-HASH"),
    (r"after [\d.]+ ?s\b", "after 1 s"),
    (r"\s+", " "),
)


def lines(text: str, namespace: str = "namespace") -> list[str]:
    """The lines of an output, as they would be in any other run."""
    text = text.replace(namespace, "namespace")
    for public, ours in IMAGES.items():
        text = text.replace(ours, public)
    text = re.sub(r"(service-precheck|busybox):[\d.]+", r"\1", text)
    found = []
    for line in text.splitlines():
        for pattern, instead in CHANGES:
            line = re.sub(pattern, instead, line)
        found.append(line.strip())
    return [line for line in found if line]


def shown(page: str, marker: str) -> list[str]:
    """The lines of the block under this marker of a page, without the dots for what is left out."""
    text = (ROOT / "docs" / page).read_text()
    block = text.partition(f"<!-- {marker} -->\n```text\n")[2].partition("\n```")[0]
    assert block, marker
    return [line for line in lines(block) if line != "..."]


def lacking(wanted: list[str], output: list[str]) -> list[str]:
    """The first lines of a page that an output does not have, in this order; events in any."""
    place = wanted.index("Events:") if "Events:" in wanted else len(wanted)
    rest = iter(output)
    for number, line in enumerate(wanted[:place]):
        if line not in rest:
            return wanted[number : number + 1]
    return [line for line in wanted[place:] if line not in output]


def agrees(namespace: Namespace, page: str, marker: str, *words: str) -> None:
    """Wait until kubectl shows what the page says."""
    wanted = shown(page, marker)

    def output() -> list[str]:
        return lines(namespace.kubectl(*words, check=False), namespace.name)

    until(
        lambda: not lacking(wanted, output()),
        lambda: f"{lacking(wanted, output())} in:\n" + "\n".join(output()),
    )


def shop(*targets: str) -> dict[str, object]:
    gate = {"name": "precheck", "image": OURS, "args": list(targets)}
    app = {"name": "shop", "image": BUSYBOX, "command": ["/bin/sleep", "infinity"]}
    spec = {"initContainers": [gate], "containers": [app], "terminationGracePeriodSeconds": 0}
    spec["automountServiceAccountToken"] = False
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop"}, "spec": spec}


def test_a_gate_that_waits(namespace: Namespace) -> None:
    """describe shows that the gate runs and was never restarted; the log says what it waits for."""
    namespace.apply(shop(f"cache.{namespace.name}:6379"))
    agrees(namespace, "kubernetes.md", "describe:waits", *DESCRIBE)
    agrees(namespace, "kubernetes.md", "log:waits", "logs", "shop", "-c", "precheck")


def test_a_gate_that_gave_up(namespace: Namespace) -> None:
    """describe shows what blocked when the time was up, and that the kubelet starts it again."""
    namespace.apply(shop("--timeout=3s", f"cache.{namespace.name}:6379"))
    agrees(namespace, "kubernetes.md", "describe:gave-up", *DESCRIBE)


def test_a_gate_given_a_mistake(namespace: Namespace) -> None:
    """describe shows the mistake, with what would be right."""
    namespace.apply(shop(f"mysq://mysql.{namespace.name}"))
    agrees(namespace, "kubernetes.md", "describe:mistake", *DESCRIBE)
