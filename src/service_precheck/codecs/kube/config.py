"""The way to an API server as a kubeconfig file has it: for laptops and pipelines, never in a pod.

Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files" and "client-go credential
plugins". YAML is read by PyYAML, which comes with `service-precheck[kubeconfig]`; a file in JSON, which
is YAML too, needs nothing. Nothing here is loaded unless a file is used, so the standard library is free.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

from ...errors import blocked
from ...model import keep_secret, printable
from ...tls import Settings
from .. import credentials
from .access import Access
from .api import Json, objects, part, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...options import Target

PATIENCE = 60.0
# A plugin's token is asked for anew this long before it expires.
EARLY = 10.0


def access(target: Target, in_pod: bool) -> Access:
    """The way of the context that `context` names, else of the file's own. Raises NotReady (`local`)."""
    config = _Config(_files(target, in_pod))
    context, _ = config.entry("context", target.text("context") or config.current)
    cluster, trusted = config.entry("cluster", text(context, "cluster"))
    user, folder = (
        config.entry("user", text(context, "user")) if text(context, "user") else ({}, trusted)
    )
    for entry, name in ((cluster, "proxy-url"), (user, "as"), (user, "username")):
        if entry.get(name):
            raise blocked("unsupported", f"{name} in the kubeconfig file is not spoken here")
    server = text(cluster, "server")
    try:
        url = urlsplit(server)
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError as error:
        raise blocked("local", f"the server of the kubeconfig file is no URL: {error}") from error
    if url.scheme not in ("https", "http") or not url.hostname:
        raise blocked(
            "local", f"the server of the kubeconfig file is no URL: {printable(server, 80)}"
        )
    namespace = text(context, "namespace") or "default"
    way = Access(url.hostname, port, namespace, None, str, url.path.rstrip("/"))
    plugin = _Plugin(part(user, "exec"), folder, cluster) if part(user, "exec") else None
    try:
        if url.scheme == "https":
            ca = _file(way, cluster, "certificate-authority", trusted)
            way.settings = _settings(way, cluster, ca, user, plugin, folder)
        way.token = _token(user, plugin, folder)
    except BaseException:
        way.__exit__()
        raise
    return way


def _files(target: Target, in_pod: bool) -> list[str]:
    if named := target.text("kubeconfig"):
        return [named]
    listed = [path for path in os.environ.get("KUBECONFIG", "").split(":") if path]
    # As kubectl has it, some may be missing, and not all.
    listed = [path for path in listed if not _is_missing(path)] or listed
    home = Path("~/.kube/config").expanduser()
    if listed or home.exists():
        return listed or [str(home)]
    if in_pod:
        hint = (
            "automountServiceAccountToken: true in the pod lets it ask; bare names need no rights"
        )
        raise blocked("local", "no service account's token is mounted in this pod", hint)
    hint = "#kubeconfig= names one"
    raise blocked("local", "this is no pod, and there is no kubeconfig file", hint)


def _is_missing(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


class _Config:
    """Files taken together: the first to name something has it. `current` is the context to use."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = ", ".join(paths)
        self._files = [(_read(path), Path(path).parent) for path in paths]
        named = (text(file, "current-context") for file, _ in self._files)
        self.current = next(filter(None, named), "")

    def entry(self, what: str, name: str) -> tuple[Json, Path]:
        """A context, cluster or user, and the folder of its file, where its relative paths begin."""
        for file, folder in self._files:
            for one in objects(file, f"{what}s"):
                if text(one, "name") == name:
                    return part(one, what), folder
        raise blocked("local", f"{self._paths} has no {what} {printable(name, 100)!r}")


def _read(path: str) -> Json:
    written = credentials.plain(path)
    try:
        value = json.loads(written)
    except ValueError:
        value = _yaml(written, path)
    if not isinstance(value, dict):
        raise blocked("local", f"{path} is no kubeconfig file")
    return value


def _yaml(written: str, path: str) -> object:
    try:
        import yaml
    except ImportError as error:
        hint = "pip install 'service-precheck[kubeconfig]', or kubectl config view --raw -o json"
        raise blocked(
            "local", f"{path} is YAML, and PyYAML is not here to read it", hint
        ) from error
    try:
        return yaml.safe_load(written)
    except (yaml.YAMLError, RecursionError) as error:
        raise blocked("local", f"{path} is no YAML") from error


def _settings(
    way: Access, cluster: Json, ca: str, user: Json, plugin: _Plugin | None, folder: Path
) -> Settings:
    cert = _file(way, user, "client-certificate", folder)
    key = _file(way, user, "client-key", folder)
    if plugin is not None and (found := plugin.certificate()):
        cert, key = (_in_memory(way, one) for one in found)
    return Settings(
        ca=ca,
        server_name=text(cluster, "tls-server-name"),
        alpn=("http/1.1",),
        cert=cert,
        key=key,
        insecure=cluster.get("insecure-skip-tls-verify") is True,
        alpn_optional=True,
    )


def _file(way: Access, entry: Json, name: str, folder: Path) -> str:
    """The path of what stands in a file, or in the entry itself; empty where it stands in neither."""
    data = text(entry, f"{name}-data")
    if data:
        try:
            return _in_memory(way, base64.b64decode(data, validate=True))
        except binascii.Error as error:
            raise blocked("local", f"{name}-data of the kubeconfig file is no base64") from error
    path = text(entry, name)
    return str(folder / path) if path else ""


def _in_memory(way: Access, data: bytes) -> str:
    """A path to `data` that no disk holds: OpenSSL reads keys from files only."""
    descriptor = os.memfd_create("kubeconfig", os.MFD_CLOEXEC)
    way.opened.append(descriptor)
    os.write(descriptor, data)
    return f"/proc/self/fd/{descriptor}"


def _token(user: Json, plugin: _Plugin | None, folder: Path) -> Callable[[], str]:
    if path := text(user, "tokenFile"):
        return lambda: credentials.from_file(str(folder / path))
    if token := text(user, "token"):
        keep_secret(token)
        return lambda: token
    if user.get("auth-provider"):
        hint = "a token, a client certificate or an exec plugin"
        raise blocked(
            "unsupported", "the kubeconfig file logs in in a way that is not spoken", hint
        )
    return plugin.token if plugin is not None else str


class _Plugin:
    """A credential plugin (client.authentication.k8s.io): a command that prints an ExecCredential."""

    def __init__(self, spec: Json, folder: Path, cluster: Json) -> None:
        self._spec = spec
        self._folder = folder
        self._cluster = cluster
        self._status: Json = {}
        self._until = 0.0

    def token(self) -> str:
        """Its token, asked for anew once it has expired; empty if it gives none."""
        return keep_secret(text(self._current(), "token"))

    def certificate(self) -> tuple[bytes, bytes] | None:
        """Its client certificate and key, in PEM."""
        status = self._current()
        cert, key = text(status, "clientCertificateData"), text(status, "clientKeyData")
        return (cert.encode(), key.encode()) if cert and key else None

    def _current(self) -> Json:
        if not self._status or time.time() > self._until - EARLY:
            self._status = self._asked()
            self._until = _moment(text(self._status, "expirationTimestamp"))
        return self._status

    def _asked(self) -> Json:
        version = text(self._spec, "apiVersion") or "client.authentication.k8s.io/v1"
        information = {
            "apiVersion": version,
            "kind": "ExecCredential",
            "spec": {"interactive": False},
        }
        given = {text(one, "name"): text(one, "value") for one in objects(self._spec, "env")}
        command = text(self._spec, "command")
        arguments = self._spec.get("args")
        words = [str(one) for one in arguments] if isinstance(arguments, list) else []
        # As kubectl has it, a path is beside the file, and a name is looked for.
        program = str(self._folder / command) if "/" in command else command
        try:
            done = subprocess.run(
                [program, *words],
                env={**os.environ, "KUBERNETES_EXEC_INFO": json.dumps(information), **given},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise blocked("local", f"{command} gave no login within {PATIENCE:.0f} s") from error
        except OSError as error:
            hint = printable(text(self._spec, "installHint"), 200)
            why = os.strerror(error.errno or 0)
            raise blocked("local", f"{command} cannot be run: {why}", hint) from error
        said = printable(done.stderr.decode("utf-8", "replace").strip(), 200)
        if done.returncode:
            raise blocked("local", f"{command} ended with {done.returncode}: {said}")
        try:
            return part(json.loads(done.stdout), "status")
        except ValueError as error:
            raise blocked("local", f"{command} printed no ExecCredential") from error


def _moment(written: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; for ever where there is none."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(written).timestamp()
    except ValueError:
        return float("inf")
