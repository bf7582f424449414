"""Where the API server is, and what says who asks: as kubectl has it, a kubeconfig file, else the pod's
service account.

Kubernetes documentation, "Accessing the API from a Pod" and "Organizing Cluster Access Using kubeconfig
Files". A file is looked for where it was named, else in $KUBECONFIG, else, where that is not set, in the
home folder; `config` reads it.
"""

from __future__ import annotations

from ... import net
from ...errors import blocked
from ...kinds import read_port
from ...net import os
from ...tls import Settings
from .. import credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from ...options import Target
    from ...stream import Attempt, Kept

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class Access:
    """A way to one API server.

    `token` gives the token as it is now, since tokens rotate, empty where there is none; it is given the
    one that the API server has just refused, None if none was. `path` is what stands before all paths. Use
    it in a `with` block: a certificate that stands in the kubeconfig file itself lies in memory for as long.
    """

    __slots__ = ("host", "namespace", "opened", "path", "port", "settings", "token")

    def __init__(
        self,
        host: str,
        port: int,
        namespace: str,
        settings: Settings | None,
        token: Callable[[str | None], str],
        path: str = "",
    ) -> None:
        self.host = host
        self.port = port
        self.path = path
        self.namespace = namespace
        self.settings = settings
        self.token = token
        # Files in memory.
        self.opened: list[Kept] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self.opened:
            self.opened.pop().close()


def access(target: Target, attempt: Attempt) -> Access:
    """The way for a target. Raises NotReady (`local`, `unsupported`)."""
    environment = net.environment()
    named = target.text("kubeconfig")
    files = [named] if named else _usual(environment)
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    if files:
        from . import config

        return config.access(target, attempt, files)
    if target.text("context"):
        raise blocked(
            "local",
            "there is no kubeconfig file that could have the context",
            "#kubeconfig= names one",
        )
    if host and net.stamp(f"{ACCOUNT}/token") is not None:
        return _in_pod(host, environment)
    if host:
        hint = (
            "automountServiceAccountToken: true in the pod lets it ask; bare names need no rights"
        )
        raise blocked("local", "no service account's token is mounted in this pod", hint)
    listed = environment.get("KUBECONFIG", "")
    where = f": $KUBECONFIG names {listed}" if listed else ""
    hint = "#kubeconfig= names one"
    raise blocked("local", f"this is no pod, and there is no kubeconfig file{where}", hint)


def _usual(environment: Mapping[str, str]) -> list[str]:
    """The files that are there, of those that kubectl would read."""
    if listed := environment.get("KUBECONFIG"):
        return [path for path in listed.split(":") if path and not _is_missing(path)]
    home = environment.get("HOME")
    path = f"{home}/.kube/config"
    # A pod's user may not look into a home that is the image's: then nobody meant it.
    return [path] if home and net.stamp(path) is not None else []


def _is_missing(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        # What is wrong is told when it is read.
        return False
    return False


def _in_pod(host: str, environment: Mapping[str, str]) -> Access:
    # IPv6 comes with and without brackets.
    host = host.removeprefix("[").removesuffix("]")
    port = read_port(environment.get("KUBERNETES_SERVICE_PORT", "443"))
    if port is None:
        raise blocked("local", "KUBERNETES_SERVICE_PORT is no port")
    namespace = credentials.plain(f"{ACCOUNT}/namespace")
    settings = Settings(ca=f"{ACCOUNT}/ca.crt", alpn=("http/1.1",), alpn_optional=True)
    token = f"{ACCOUNT}/token"
    return Access(host, port, namespace, settings, lambda _: credentials.from_file(token))
