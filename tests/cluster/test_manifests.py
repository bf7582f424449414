"""Manifests that fit: the init containers of the page, the kustomize component, the Helm library chart.

The blocks of `docs/kubernetes.md` and the folders below `examples/kubernetes` are run as they stand, but
for the names of images and of the namespace; helm and kustomize are the real programs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.bed import EXAMPLES, IMAGES, ROOT, Cluster, Namespace, Object, opened, until
from tests.cluster.test_basics import BUSYBOX, OURS
from tools.cluster import BIN, kubeconfig

pytestmark = [pytest.mark.timeout(600)]

PUBLIC = "registry.example/service-precheck:0.1.0"
# What the page's pods wait for: its name is enough.
CACHE: Object = {"spec": {"selector": {"app": "cache"}, "ports": [{"port": 80}]}}
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


def blocks(marker: str) -> list[str]:
    """The YAML blocks that stand under this marker of `docs/kubernetes.md`."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    return re.findall(rf"<!-- {marker} -->\n```yaml\n(.*?)```", page, re.DOTALL)


def named(kind: str, name: str, **fields: object) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


def pod_of(block: str, namespace: Namespace) -> tuple[Object, list[Object]]:
    """The pod spec that a block of the page shows, and the objects before it; names as here."""
    *before, spec = yaml.safe_load_all(
        block.replace(PUBLIC, OURS).replace(".namespace", f".{namespace.name}")
    )
    spec["containers"] = [
        {
            "name": "shop",
            "image": BUSYBOX,
            "command": ["/bin/sleep", "infinity"],
            # What the page leaves to the app: enough for the strictest of the postures.
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
    ]
    spec["terminationGracePeriodSeconds"] = 0
    return spec, before


@pytest.fixture
def restricted(namespace: Namespace) -> Namespace:
    """Return a namespace whose pods are held to Pod Security `restricted`, with a cache to wait for."""
    namespace.cluster.kubectl("label", "namespace", namespace.name, RESTRICTED)
    namespace.apply(named("Service", "cache", **CACHE))
    return namespace


def test_the_shortest_of_the_page(namespace: Namespace) -> None:
    """A name, an image and targets are enough where no posture is enforced."""
    (block,) = blocks("posture:plain")
    spec, _ = pod_of(block, namespace)
    assert set(spec["initContainers"][0]) == {"name", "image", "args"}
    namespace.apply(named("Service", "cache", **CACHE), named("Pod", "shop", spec=spec))
    until(lambda: namespace.get("pod", "shop")["status"]["phase"] == "Running", namespace.story)


@pytest.mark.parametrize("posture", ["restricted", "kube"])
def test_the_postures_of_the_page(posture: str, restricted: Namespace) -> None:
    """The page's pods are admitted where `restricted` is enforced, and open in 10m cpu and 16 MiB."""
    (block,) = blocks(f"posture:{posture}")
    spec, before = pod_of(block, restricted)
    (gate,) = spec["initContainers"]
    assert gate["resources"]["limits"] == {"cpu": "10m", "memory": "16Mi"}
    assert gate["imagePullPolicy"] == "IfNotPresent"
    needs_the_api = any(target.startswith("kube:") for target in gate["args"])
    assert spec["automountServiceAccountToken"] is needs_the_api
    restricted.apply(*before, named("Pod", "shop", spec=spec))
    if needs_the_api:
        until(lambda: "[missing-object]" in log(restricted), restricted.story)
        restricted.apply(named("ConfigMap", "settings"))
    until(lambda: restricted.get("pod", "shop")["status"]["phase"] == "Running", restricted.story)
    pod = restricted.get("pod", "shop")
    assert opened(pod)["exitCode"] == 0
    mounted = [volume["name"] for volume in pod["spec"].get("volumes", ())]
    assert any(name.startswith("kube-api-access") for name in mounted) is needs_the_api


def log(namespace: Namespace) -> str:
    return namespace.kubectl("logs", "shop", "-c", "precheck", check=False)


def test_each_line_of_the_posture_is_needed(restricted: Namespace) -> None:
    """Without any one of the gate's security lines the real admission turns the pod away."""
    (block,) = blocks("posture:restricted")
    spec, _ = pod_of(block, restricted)
    pod = named("Pod", "shop", spec=spec)
    context = spec["initContainers"][0]["securityContext"]
    asked = {"runAsNonRoot", "allowPrivilegeEscalation", "capabilities", "seccompProfile"}
    assert asked <= set(context)
    dry = ("apply", "--dry-run=server", "-f", "-")
    for line in sorted(asked):
        kept = context.pop(line)
        told = restricted.kubectl(*dry, given=json.dumps(pod), check=False)
        assert "violates PodSecurity" in told, line
        context[line] = kept
    assert "created" in restricted.kubectl(*dry, given=json.dumps(pod))


def test_the_component(namespace: Namespace, tmp_path: Path) -> None:
    """kustomize puts the gate first in the labelled Deployment alone, and another list rolls it out."""
    shutil.copytree(EXAMPLES / "component", tmp_path, dirs_exist_ok=True)
    page = (tmp_path / "README.md").read_text()
    (moved,) = re.findall(r"^sed --in-place '.*' targets kustomization\.yaml$", page, re.MULTILINE)
    moved = moved.replace("/.shop/", f"/.{namespace.name}/")
    subprocess.run(moved, shell=True, cwd=tmp_path / "shop", check=True)
    assert "image: registry.shop.example/service-precheck:" in program(
        "kustomize", "build", str(tmp_path / "shop")
    )
    targets = tmp_path / "shop" / "targets"
    images = {
        name.replace("registry.example", "registry.shop.example"): IMAGES[name] for name in IMAGES
    }
    overlay = {
        "resources": ["../shop"],
        "namespace": namespace.name,
        "images": [
            {"name": name, "newName": new.rpartition(":")[0], "newTag": new.rpartition(":")[2]}
            for name, new in images.items()
        ],
    }
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(json.dumps(overlay))

    def apply() -> dict[str, Object]:
        built = program("kustomize", "build", str(tmp_path / "overlay"))
        objects = list(yaml.safe_load_all(built))
        namespace.apply(*objects)
        return {f"{each['kind']}/{each['metadata']['name']}": each for each in objects}

    made = apply()
    pods = {name: made[name]["spec"]["template"]["spec"] for name in made if "Deployment" in name}
    gates = [each["name"] for each in pods["Deployment/shop"]["initContainers"]]
    assert gates == ["precheck", "warm-up"]
    assert "initContainers" not in pods["Deployment/cache"]
    namespace.wait_ready()
    assert set(namespace.restarts().values()) == {0}
    ready = f"ready: http://cache.{namespace.name}:80/ready: GET /ready answers 200"
    assert ready in namespace.kubectl("logs", "deployment/shop", "-c", "precheck")

    targets.write_text(targets.read_text() + f"cache.{namespace.name}:80\n")
    before, after = (each["Deployment/shop"]["spec"]["template"] for each in (made, apply()))
    assert before != after
    namespace.kubectl("rollout", "status", "deployment/shop", "--timeout=60s")
    until(lambda: len(namespace.get("pods", "--selector=app=shop")["items"]) == 1, namespace.story)
    assert set(namespace.restarts().values()) == {0}
    said = namespace.kubectl("logs", "deployment/shop", "-c", "precheck")
    assert "all 2 dependencies hold" in said


@pytest.fixture
def charts(tmp_path: Path) -> Path:
    """Return a copy of the charts, with the library packed into the app's chart."""
    shutil.copytree(EXAMPLES / "helm", tmp_path / "helm")
    app = tmp_path / "helm" / "shop"
    program("helm", "dependency", "update", str(app))
    return app


def program(name: str, *words: str, inside: Cluster | None = None, fails: bool = False) -> str:
    """Run helm or kustomize, where the API server can be reached; its output, or its error."""
    command = [str(BIN / name), *words]
    if inside is not None:
        command = inside.inside(*command, f"--kubeconfig={kubeconfig('admin')}")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode != 0) is fails, done.stderr
    return done.stderr if fails else done.stdout


def test_the_chart_renders(charts: Path) -> None:
    """The library chart renders the gate from values, and fails where there is nothing to wait for."""
    words = ("template", "shop", str(charts), "--namespace=there")

    def gate(*values: str) -> Object:
        given = [word for value in values for word in ("--set-json", value)]
        objects = list(yaml.safe_load_all(program("helm", *words, *given)))
        (shop,) = [each for each in objects if each["metadata"]["name"] == "shop"]
        (found,) = shop["spec"]["template"]["spec"]["initContainers"]
        rendered: Object = found
        return rendered

    plain = gate()
    assert plain["name"] == "precheck"
    assert plain["image"] == PUBLIC
    assert plain["args"] == ["http://cache.there/ready"]
    (block,) = blocks("posture:restricted")
    (documented,) = yaml.safe_load(block)["initContainers"]
    assert plain["securityContext"] == documented["securityContext"]
    assert plain["imagePullPolicy"] == documented["imagePullPolicy"]
    other = gate(
        'gate.targets=["a:1", "http://b#json=x: \\"y\\""]',
        'gate.args=["--output=json"]',
        'gate.name="first"',
        'gate.image="mirror.example/precheck:1"',
        'gate.env=[{"name": "A", "value": "b"}]',
        'gate.volumeMounts=[{"name": "v", "mountPath": "/v"}]',
        'gate.resources={"limits": {"memory": "32Mi"}}',
        'gate.securityContext={"runAsUser": 1}',
    )
    assert other == {
        "name": "first",
        "image": "mirror.example/precheck:1",
        "imagePullPolicy": "IfNotPresent",
        "args": ["--output=json", "a:1", 'http://b#json=x: "y"'],
        "env": [{"name": "A", "value": "b"}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "resources": {"limits": {"memory": "32Mi"}},
        "securityContext": {"runAsUser": 1},
    }
    told = program("helm", *words, "--set-json", "gate.targets=[]", fails=True)
    assert "targets is empty" in told
    assert "Error" not in program("helm", "lint", str(charts))


def test_the_chart_installs(charts: Path, namespace: Namespace) -> None:
    """`helm --wait` returns once the app behind the gate is ready; nothing was restarted."""
    cluster = namespace.cluster
    page = (charts.parent / "README.md").read_text()
    assert "--set gate.image=registry.shop.example/service-precheck:" in page
    values = (f"--set=image={BUSYBOX}", f"--set=gate.image={OURS}")
    where = (f"--namespace={namespace.name}", "--wait", "--timeout=100s")
    upgrade = ("upgrade", "--install", "shop", str(charts))
    program("helm", *upgrade, *where, *values, inside=cluster)
    assert namespace.unready() == []
    assert set(namespace.restarts().values()) == {0}
    gate = opened(namespace.pod("shop"))
    assert gate["exitCode"] == 0
    assert "ready: http://cache." in namespace.kubectl("logs", "deployment/shop", "-c", "precheck")
    program("helm", "uninstall", "shop", where[0], inside=cluster)
