"""The way to an API server as a kubeconfig file has it: for laptops and pipelines.

Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files". What is not spoken is
refused, where leaving it out would ask another server, or as somebody else, than kubectl would. Nothing
here is loaded unless a file is used, so the standard library is free.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from ...kinds import is_name
from ...masking import mask
from ...model import keep_secret, printable
from ...net import is_address
from ...tls import Settings
from .. import credentials, http1
from ..location import follow
from .access import Access
from .certificate import Held, fault_of_certificates, fault_of_key
from .entries import MOST, Entry, Files
from .kinds import is_namespace
from .plugin import plugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...options import Target
    from ...stream import Attempt
    from .api import Json
    from .plugin import Login, Plugin

_NOT_SPOKEN = ("as", "username", "auth-provider")
_SPOKEN = "a token, a client certificate or an exec plugin"


def access(target: Target, attempt: Attempt, files: list[str]) -> Access:
    """The way of the context that `context` names, else of the files' own.

    Raises NotReady (`local`, `unsupported`).
    """
    config = Files(files)
    context = config.context(target.text("context"))
    if not context.has("cluster"):
        raise context.wrong("cluster", "is not set")
    cluster = config.entry("cluster", context.text("cluster"))
    name = context.text("user")
    user = config.entry("user", name) if name else Entry({}, "no user", Path(files[0]))
    if cluster.has("proxy-url"):
        raise cluster.wrong("proxy-url", "is not spoken here", cause="unsupported")
    for name in _NOT_SPOKEN:
        if user.has(name):
            raise user.wrong(name, "is a login that is not spoken here", _SPOKEN, "unsupported")
    namespace = context.text("namespace") or "default"
    if not is_namespace(namespace):
        raise context.wrong("namespace", "is no name that a namespace can have")
    place = _place(cluster, user)
    path = place.path.partition("?")[0].rstrip("/")
    asked = _plugin(user, cluster)
    way = Access(place.host, place.port, namespace, None, _token(user, attempt, asked), path)
    try:
        if place.scheme == "https":
            way.settings = _settings(way, cluster, user, asked.login(attempt) if asked else None)
    except BaseException:
        way.__exit__()
        raise
    return way


def _place(cluster: Entry, user: Entry) -> http1.Place:
    """Where the server is."""
    server = cluster.text("server")
    if not server:
        raise cluster.wrong("server", "is not set")
    address = server
    if "://" not in server:
        # As client-go has it: TLS where anything is said of it.
        named = ("certificate-authority", "insecure-skip-tls-verify", "client-certificate")
        secure = any(one.has(n) or one.has(f"{n}-data") for one in (cluster, user) for n in named)
        address = f"{'https' if secure else 'http'}://{server}"
    if "@" in address.partition("://")[2].partition("/")[0]:
        raise cluster.wrong("server", "has a login before the @", _SPOKEN, "unsupported")
    place = follow(http1.Place("https", "", 443, "/"), address)
    if place is None:
        hint = "" if server.isascii() else "DNS is asked for a name's xn-- form"
        shown = printable(mask(server, ()), 100)
        raise cluster.wrong("server", f"is neither https://HOST:PORT nor HOST:PORT: {shown}", hint)
    return place


def _settings(way: Access, cluster: Entry, user: Entry, login: Login | None) -> Settings:
    server_name = cluster.text("tls-server-name")
    if server_name and not (is_name(server_name) or is_address(server_name)):
        hint = "" if server_name.isascii() else "DNS is asked for a name's xn-- form"
        raise cluster.wrong("tls-server-name", "is no name of a server", hint)
    ca = _file_of(way, cluster, "certificate-authority", fault_of_certificates)
    if login is not None and login.certificate:
        cert, key = (_held(way, one.encode()) for one in (login.certificate, login.key))
    else:
        cert = _file_of(way, user, "client-certificate", fault_of_certificates)
        key = _file_of(way, user, "client-key", lambda key: fault_of_key(cert, key))
        if cert and not key:
            raise user.wrong("client-key", "is not set, and client-certificate is")
    return Settings(
        ca=ca,
        server_name=server_name,
        alpn=("http/1.1",),
        cert=cert,
        key=key,
        insecure=cluster.flag("insecure-skip-tls-verify"),
        alpn_optional=True,
    )


def _file_of(way: Access, entry: Entry, name: str, fault: Callable[[str], str]) -> str:
    """The path of what stands in a file or in the entry itself, empty where it stands in neither; `fault`
    tells why it cannot be used."""
    data = f"{name}-data"
    if entry.has(data):
        path = _held(way, entry.data(data))
        if found := fault(path):
            raise entry.wrong(data, found)
        return path
    path = entry.path(name)
    if path and (found := fault(path)):
        raise entry.wrong(name, f"names {path}, which {found}")
    return path


def _held(way: Access, data: bytes) -> str:
    held = Held(data)
    way.opened.append(held)
    return held.path


def _token(user: Entry, attempt: Attempt, asked: Plugin | None) -> Callable[[str | None], str]:
    if path := user.path("tokenFile"):
        return lambda _: credentials.from_file(path)
    if token := user.text("token"):
        keep_secret(token)
        return lambda _: token
    if asked is not None:
        return lambda refused: asked.login(attempt, refused).token
    return lambda _: ""


def _plugin(user: Entry, cluster: Entry) -> Plugin | None:
    """The plugin that logs in, None where there is none."""
    spec = user.part("exec")
    if spec is None:
        return None
    command = spec.text("command")
    if not command:
        raise spec.wrong("command", "is not set")
    wanted: Json = {"interactive": False}
    if spec.flag("provideClusterInfo"):
        wanted["cluster"] = _information(cluster)
    information = {
        "apiVersion": spec.text("apiVersion") or "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": wanted,
    }
    try:
        told = ("KUBERNETES_EXEC_INFO", json.dumps(information))
    except RecursionError as error:
        raise cluster.wrong("extensions", "are nested too deep") from error
    # As kubectl has it, a path is beside the file, and a name is looked for.
    path = spec.path("command") if "/" in command else command
    hint = printable(" ".join(spec.lines("installHint").split()), 200)
    return plugin(path, spec.texts("args"), (*spec.pairs("env"), told), hint)


def _information(cluster: Entry) -> Json:
    """What a plugin is told of the cluster (client.authentication.k8s.io, `Cluster`)."""
    ca = cluster.data("certificate-authority-data")
    if not ca and (path := cluster.path("certificate-authority")):
        ca = credentials.read(path, MOST).encode()
    known = {
        "server": cluster.text("server"),
        "tls-server-name": cluster.text("tls-server-name"),
        "insecure-skip-tls-verify": cluster.flag("insecure-skip-tls-verify"),
        "certificate-authority-data": base64.b64encode(ca).decode(),
        "config": cluster.extension("client.authentication.k8s.io/exec"),
    }
    return {name: value for name, value in known.items() if value}
