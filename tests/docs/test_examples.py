"""Each file under `examples/` is understood, and the blog post's targets run as they stand."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
import yaml

from service_precheck.cli import Command, understand
from service_precheck.target import leaves
from tests.bed.fixtures import Enter
from tests.bed.names import ScriptedDNS
from tests.bed.process import Gate
from tests.bed.world import Etc, World, resolv_conf

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
IMAGE = "registry.example/service-precheck:0.1.0"
MANIFESTS = sorted(
    path
    for pattern in ("*.yaml", "*/*.yaml")
    for path in (EXAMPLES / "kubernetes").glob(pattern)
    if f"image: {IMAGE}" in path.read_text()
)
STORIES = sorted(
    page.parent
    for page in (EXAMPLES / "kubernetes").glob("*/README.md")
    if " *.yaml |" in page.read_text()
)


def objects(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def gates(path: Path) -> list[dict[str, Any]]:
    """The gate's init containers of a manifest."""
    found = []
    for thing in objects(path):
        pod = thing.get("spec", {}).get("template", {}).get("spec", {})
        found += [c for c in pod.get("initContainers", []) if c["image"] == IMAGE]
    return found


def as_in_the_pod(path: Path, arguments: list[str], folder: Path) -> Command:
    """The arguments, understood where the manifest's ConfigMaps are mounted under `folder`."""
    for thing in objects(path):
        if thing["kind"] == "ConfigMap":
            for name, text in thing["data"].items():
                (folder / name).write_text(text)
    return understand([a.replace("/needs/", f"{folder}/") for a in arguments], {})


@pytest.mark.parametrize("folder", STORIES, ids=lambda folder: folder.name)
def test_the_files_of_a_story_can_be_joined(folder: Path) -> None:
    """`sed ... *.yaml | kubectl apply`, as its page has it, applies each object of each file."""
    files = sorted(folder.glob("*.yaml"))
    joined = yaml.safe_load_all("".join(path.read_text() for path in files))
    assert list(joined) == [each for path in files for each in objects(path)]


@pytest.mark.parametrize("folder", STORIES, ids=lambda folder: folder.name)
@pytest.mark.parametrize("page", ["README.md", "../../../docs/stories.md"], ids=["own", "general"])
def test_a_story_is_moved_to_another_namespace(folder: Path, page: str) -> None:
    """The command of a page leaves nothing of the namespace and the registry that stand for the user's."""
    (command,) = re.findall(r"^(sed '.*' \*\.yaml) \|$", (folder / page).read_text(), re.MULTILINE)
    told = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
    assert (
        re.findall(r".*(?:\.namespace|namespace: namespace|registry\.example).*", told.stdout) == []
    )
    assert "registry.shop.example/service-precheck:" in told.stdout
    assert len(list(yaml.safe_load_all(told.stdout))) == sum(
        len(objects(path)) for path in folder.glob("*.yaml")
    )


def test_flux_is_given_a_repository_and_a_namespace() -> None:
    """The command of its page leaves nothing of the address and the namespace that stand for the user's."""
    folder = EXAMPLES / "kubernetes" / "flux"
    page = (folder / "README.md").read_text()
    (command,) = re.findall(r"^(sed '.*' flux\.yaml) \|$", page, re.MULTILINE)
    told = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    source, wanted = yaml.safe_load_all(told)
    assert source["spec"]["url"] == "https://git.shop.example/shop.git"
    assert wanted["spec"]["targetNamespace"] == "shop"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_manifests_are_understood(path: Path, tmp_path: Path) -> None:
    """Each Kubernetes example has a gate without a command, and its targets parse."""
    containers = gates(path)
    assert containers
    for container in containers:
        assert "command" not in container
        command = as_in_the_pod(path, container["args"], tmp_path)
        assert command.root.members


def test_hardened_example_is_restricted() -> None:
    """The hardened example meets what the "restricted" Pod Security level asks of every container."""
    path = EXAMPLES / "kubernetes" / "hardened.yaml"
    (deployment,) = [thing for thing in objects(path) if thing["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    for container in pod["initContainers"] + pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
    (gate,) = gates(path)
    assert gate["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("story", ["mysql/shop.yaml", "zookeeper/names.yaml"])
def test_post_manifests_run(story: str, enter: Enter) -> None:
    """The post's args, verbatim, behind a pod's resolver: waits for the names, then exits 0 (fault 26)."""
    (container,) = gates(EXAMPLES / "kubernetes" / story)
    args = container["args"]
    world = enter(World("10.96.0.10"))
    dns = enter(ScriptedDNS(host="10.96.0.10", port=53, place=world))
    zone = "svc.cluster.local"
    search = [f"namespace.{zone}", zone, "cluster.local"]
    etc = enter(Etc(resolv_conf("10.96.0.10", search=search, options="ndots:5")))
    gate = enter(Gate(*args, inside=[world, etc]))
    for name in args:
        gate.wait_output(f"no such name: {name}")
    for name in args[:-1]:
        dns.add(f"{name}.{zone}", "A", "10.22.0.9")
        gate.wait_output(f"ready: {name}: resolves to 10.22.0.9")
    assert gate.running()
    dns.add(f"{args[-1]}.{zone}", "A", "10.22.0.10")
    assert gate.wait().status == 0


def test_compose_example() -> None:
    """Compose starts the app after the gate's success, and the gate's command parses."""
    services = yaml.safe_load((EXAMPLES / "compose" / "compose.yaml").read_text())["services"]
    assert services["ready"]["image"] == IMAGE
    command = understand(services["ready"]["command"], {})
    hosts = {leaf.host for leaf in leaves(command.root)}
    assert hosts == {"db", "cache"} <= set(services)
    after = services["app"]["depends_on"]
    assert after == {"ready": {"condition": "service_completed_successfully"}}


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_ci_examples(name: str) -> None:
    """The pipelines are YAML, and the gate's command line in each has a time limit and parses."""
    text = (EXAMPLES / "ci" / name).read_text()
    yaml.safe_load(text)
    lines = [line.strip(" -") for line in text.splitlines() if "service-precheck --" in line]
    (line,) = [line.removeprefix("run: ") for line in lines]
    command = understand(shlex.split(line)[1:], {})
    assert command.options["timeout"] == 120.0
    assert [str(leaf.port) for leaf in leaves(command.root)] == ["3306"]


def test_python_image_example(tmp_path: Path) -> None:
    """The Dockerfile's entry point and command parse together, and the app serves (PEP 3333)."""
    folder = EXAMPLES / "python-image"
    words: dict[str, list[str]] = {}
    for line in (folder / "Dockerfile").read_text().splitlines():
        keyword, _, rest = line.partition(" ")
        if keyword in ("ENTRYPOINT", "CMD"):
            words[keyword] = json.loads(rest)
    needs = tmp_path / "needs"
    needs.write_text("db:5432\n")
    arguments = [
        a.replace("/etc/needs", str(needs)) for a in words["ENTRYPOINT"][1:] + words["CMD"]
    ]
    command = understand(arguments, {})
    assert command.command[0] == "gunicorn"
    assert [leaf.where() for leaf in leaves(command.root)] == ["db:5432"]
    spec = importlib.util.spec_from_file_location("example_app", folder / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    environ: dict[str, Any] = {"PATH_INFO": "/x"}
    setup_testing_defaults(environ)
    told: list[object] = []
    assert module.app(environ, lambda *answer: told.append(answer)) == [b"hello from /x\n"]
    assert told


def test_every_example_is_used() -> None:
    """Each file under `examples/` is named by a test or lies in a folder that one runs."""
    sources = [ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py")]
    words = {
        node.value
        for tree in sources
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for path in EXAMPLES.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path):
            parts = path.relative_to(EXAMPLES).parts
            assert words & {path.name, parts[0]}, path
