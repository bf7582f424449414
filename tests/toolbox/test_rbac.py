"""`precheck rbac`: the manifests that it prints. That they are enough, and each rule needed, a real
cluster shows: `tests/cluster/test_kube.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.bed.process import TOOLBOX, Finished, run
from tests.probes.test_kube import ApiServer, kubeconfig, ok


def told(*arguments: str, **more: str) -> Finished:
    return run("rbac", *arguments, command=TOOLBOX, env=more)


def test_names_of_one_resource_stand_in_one_rule() -> None:
    """Roles come by namespace, rules by resource, and names together; a binding follows each role."""
    done = told(
        *("kube://job/a", "kube://job/b", "kube://cm/settings#key=x", "kube://shop/deploy/web"),
        *("--namespace", "front", "--service-account", "cart"),
    )
    assert done.status == 0
    first, binding, second, _ = yaml.safe_load_all(done.stdout)
    assert [first["metadata"]["namespace"], second["metadata"]["namespace"]] == ["front", "shop"]
    assert first["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["settings"],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": ["batch"],
            "resources": ["jobs"],
            "resourceNames": ["a", "b"],
            "verbs": ["list", "watch"],
        },
    ]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "cart", "namespace": "front"}]
    assert binding["roleRef"]["name"] == first["metadata"]["name"] == "service-precheck-cart"
    assert second["metadata"]["name"] == "service-precheck-front:cart"


def test_no_account_replaces_what_another_one_has() -> None:
    """Whatever two accounts are called, no object that is printed for them has kind, namespace and name
    of another's; with one name given for all, none outside of their own namespaces."""
    accounts = [
        *(("front", "cart"), ("front", "cart2"), ("shop", "cart"), ("shop", "front-cart")),
        *(("front-cart", "a"), ("front", "cart-a"), ("shop", "front.cart"), ("a", "shop")),
    ]

    def printed(*more: str) -> list[tuple[str, str, str]]:
        found = []
        for namespace, account in accounts:
            whose = ("--namespace", namespace, "--service-account", account, *more)
            done = told("kube://job/a", "kube://shop/cm/b", "kube://node/n", *whose)
            for each in yaml.safe_load_all(done.stdout):
                metadata = each["metadata"]
                place = metadata.get("namespace", "")
                found.append((each["kind"], place, metadata["name"]))
        return found

    objects = printed()
    assert len(objects) == len(set(objects))
    assert {kind for kind, _, _ in objects} == {
        *("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    }
    own = {namespace for namespace, _ in accounts}
    shared = [each for each in printed("--name=gate") if each[2] != "gate"]
    assert len(shared) == len(set(shared))
    assert {place for _, place, _ in shared} - own == {""}


def test_a_selector_needs_all_of_the_kind() -> None:
    """A rule that is about every object names none; it takes the named ones in."""
    done = told(
        "kube://pod#selector=app=x", "kube://pod/y", "kube://svc/z", "kube://ds/d#same-node"
    )
    role, _ = yaml.safe_load_all(done.stdout)
    assert [(rule["resources"], rule.get("resourceNames")) for rule in role["rules"]] == [
        (["pods"], None),
        (["endpointslices"], None),
    ]


def test_only_a_kind_of_the_cluster_asks_for_a_cluster_role() -> None:
    """A ClusterRole is named after the account, since a cluster has one of each name."""
    done = told("all(kube://node/n, any(kube://job/a, tcp://b:1))", "--name", "gate")
    kinds = [each["kind"] for each in yaml.safe_load_all(done.stdout)]
    assert kinds == ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"]
    *_, binding = yaml.safe_load_all(done.stdout)
    assert binding["metadata"]["name"] == "gate-default:default"


def test_a_custom_kind_is_looked_up(tmp_path: Path) -> None:
    """The API server says what a custom kind is called; where it cannot, that is told."""
    api = ApiServer()
    config = kubeconfig(tmp_path, f"http://127.0.0.1:{api.port}")
    api.paths["/apis/example.org"] = ok({"preferredVersion": {"version": "v1"}})
    gadgets = {"name": "gadgets", "singularName": "gadget", "namespaced": False}
    api.paths["/apis/example.org/v1"] = ok({"resources": [gadgets]})
    done = told("kube://gadget.example.org/one", KUBECONFIG=str(config))
    role, _ = yaml.safe_load_all(done.stdout)
    assert role["kind"] == "ClusterRole"
    assert role["rules"][0]["resources"] == ["gadgets"]
    api.close()
    done = told("kube://gadget.example.org/one", KUBECONFIG=str(config))
    assert done.status == 1
    assert "refused the connection" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tcp://a:1",), "nothing needs rights"),
        (("kube://job/a", "--namespace", "a b"), "no name of an object"),
        (("kube://jobb/a",), "did you mean job"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], said: str) -> None:
    """What cannot be meant is told, exit status 2."""
    done = told(*arguments)
    assert done.status == 2
    assert said in done.stderr
