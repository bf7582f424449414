"""Where the API server is, and what says who asks: in a pod by its service account.

Kubernetes documentation, "Accessing the API from a Pod". Where no service account is mounted, or a
kubeconfig file is named, `config` knows.
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
    from collections.abc import Callable
    from typing import Self

    from ...options import Target

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class Access:
    """A way to one API server. `token` reads it anew, since tokens rotate; empty where there is none.

    `path` is what stands before all paths. Use it in a `with` block: a certificate that stands in the
    kubeconfig file itself lies in memory for as long.
    """

    __slots__ = ("host", "namespace", "opened", "path", "port", "settings", "token")

    def __init__(
        self,
        host: str,
        port: int,
        namespace: str,
        settings: Settings | None,
        token: Callable[[], str],
        path: str = "",
    ) -> None:
        self.host = host
        self.port = port
        self.path = path
        self.namespace = namespace
        self.settings = settings
        self.token = token
        # Descriptors of files in memory.
        self.opened: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self.opened:
            os.close(self.opened.pop())


def access(target: Target) -> Access:
    """The way for a target. Raises NotReady (`local`)."""
    environment = net.environment()
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    if host and not (target.text("kubeconfig") or target.text("context")) and _mounted():
        # IPv6 comes with and without brackets.
        host = host.removeprefix("[").removesuffix("]")
        port = read_port(environment.get("KUBERNETES_SERVICE_PORT", "443"))
        if port is None:
            raise blocked("local", "KUBERNETES_SERVICE_PORT is no port")
        namespace = credentials.plain(f"{ACCOUNT}/namespace")
        settings = Settings(ca=f"{ACCOUNT}/ca.crt", alpn=("http/1.1",), alpn_optional=True)
        token = f"{ACCOUNT}/token"
        return Access(host, port, namespace, settings, lambda: credentials.from_file(token))
    from . import config

    return config.access(target, bool(host))


def _mounted() -> bool:
    try:
        os.stat(f"{ACCOUNT}/token")
    except OSError:
        return False
    return True
