"""What a `kube:` target may say, and which of it goes together."""

from __future__ import annotations

from ...kinds import Kind, Wrong
from ...options import FLAG, NUMBER, PATH, TEXT, Option, Target, choice
from . import kinds
from .fields import read_condition, read_path
from .selector import read_selector

OPTIONS = (
    Option(
        "selector",
        Kind("LABELS", read_selector),
        "labels of the objects, as app=web,tier!=db, instead of a name",
    ),
    Option("min", NUMBER, "how many endpoints, or of the selected objects, must be ready"),
    Option(
        "condition",
        Kind("NAME:STATUS", read_condition),
        "a condition that must be so, as Ready or Ready:False",
        many=True,
    ),
    Option(
        "jsonpath",
        Kind("PATH:VALUE", read_path),
        "a field that must be so, as .status.phase:Running; without a value, that must be there",
        many=True,
    ),
    Option("exists", FLAG, "ask for no more than that it is there", False),
    Option("absent", FLAG, "ask for it to be gone", False),
    Option("key", TEXT, "a key that the configmap or secret must have", many=True),
    Option("same-node", FLAG, "ask for the daemonset's pod on this pod's node ($NODE_NAME)", False),
    Option(
        "failed",
        choice("fail", "wait"),
        "fail: a job that failed ends the gate; wait: it is waited for one that is made anew",
        "fail",
    ),
    Option("kubeconfig", PATH, "a kubeconfig file, instead of those that kubectl would use"),
    Option("context", TEXT, "the context of the kubeconfig file, instead of its current one"),
)


def check(target: Target) -> tuple[str, ...]:
    """What is wrong with the parts of a target, and with options that do not go with its kind."""
    try:
        what = kinds.asked(target)
    except Wrong as wrong:
        return (str(wrong),)
    known = kinds.built_in(what.kind)
    name = known.name if known is not None else what.kind
    given = {option for option, value in target.given if value is not False}
    wrong_ones = []
    if {"exists", "absent"} & given and given & {
        "condition",
        "jsonpath",
        "key",
        "same-node",
        "min",
    }:
        wrong_ones.append("#exists or #absent with what only an object that is there can have")
    if {"exists", "absent"} <= given:
        wrong_ones.append("#exists with #absent")
    if "key" in given and name not in ("configmap", "secret"):
        wrong_ones.append(f"#key= of a {name}; only a configmap and a secret have keys")
    if "key" in given and given & {"condition", "jsonpath"}:
        wrong_ones.append("#key= with #condition= or #jsonpath=")
    if "min" in given and not ("selector" in given or name == "service"):
        wrong_ones.append("#min= of one object; it goes with a service, or with #selector=")
    if "same-node" in given and not (name == "daemonset" and what.name):
        wrong_ones.append("#same-node without a daemonset: kube://daemonset/NAME#same-node")
    if "failed" in given and name != "job":
        wrong_ones.append(f"#failed= of a {name}; only a job fails for good")
    return tuple(wrong_ones)
