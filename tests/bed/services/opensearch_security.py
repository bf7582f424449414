"""OpenSearch with its Security plugin: TLS, and a configuration that holds logins and rights.

    with SecuredOpenSearch(authority) as node:
        node.add("app", "tannenwald-17", cluster=["cluster_monitor"])
        node.limit(type="ip", allowed_tries=5)  # of failed logins; `node.limit()` takes it back

`node.ask` shows the administrator's certificate, which is let in whatever the configuration says. The
configuration is the plugin's own; a client's certificate is a login too, as the user of its common name,
and so is a token that `node.token(user)` makes.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import http.client
import json
import shutil
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.bed.services.elasticsearch import OpenSearch, brought

if TYPE_CHECKING:
    from tests.bed.tls import Authority

API = "/_plugins/_security/api"
# What tokens are signed with.
KEY = b"no shorter than what SHA-256 makes of anything"


class SecuredOpenSearch(OpenSearch):
    """A node with certificates of an authority."""

    plugins = ("org.opensearch.security.OpenSearchSecurityPlugin",)
    # The plugin has transports of its own.
    own = ()

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority

    def _jars(self) -> str:
        return f"{super()._jars()}:{brought('opensearch-security')}/*"

    def _configure(self, folder: Path) -> None:
        security = folder / "opensearch-security"
        shutil.copytree(brought("opensearch-security") / "config", security)
        file = security / "config.yml"
        config = yaml.safe_load(file.read_text())
        domains = config["config"]["dynamic"]["authc"]
        for name in ("clientcert_auth_domain", "jwt_auth_domain"):
            domains[name]["http_enabled"] = True
        signing = base64.b64encode(KEY).decode()
        domains["jwt_auth_domain"]["http_authenticator"]["config"]["signing_key"] = signing
        file.write_text(yaml.safe_dump(config))

        certificate = self._authority.issue()
        shutil.copy(self._authority.file, folder / "ca.pem")
        shutil.copy(certificate.chain, folder / "node.pem")
        # In PKCS #8, the one form that Java reads.
        key = load_pem_private_key(certificate.key.read_bytes(), None)
        raw = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "node.key").write_bytes(raw)
        self._administrator = self._authority.client("administrator@example.org")
        shown = x509.load_pem_x509_certificate(self._administrator.chain.read_bytes())
        settings: dict[str, object] = {
            "plugins.security.ssl.http.enabled": True,
            "plugins.security.allow_default_init_securityindex": True,
            "plugins.security.unsupported.restapi.allow_securityconfig_modification": True,
            "plugins.security.ssl.transport.enforce_hostname_verification": False,
            "plugins.security.authcz.admin_dn": [shown.subject.rfc4514_string()],
            # The least: by default each look at a password takes a fifth of a second.
            "plugins.security.password.hashing.bcrypt.rounds": 4,
        }
        for layer in ("http", "transport"):
            files = {"pemcert": "node.pem", "pemkey": "node.key", "pemtrustedcas": "ca.pem"}
            for kind, name in files.items():
                settings[f"plugins.security.ssl.{layer}.{kind}_filepath"] = name
        (folder / "opensearch.yml").write_text(yaml.safe_dump(settings))

    def _connection(self) -> http.client.HTTPConnection:
        context = ssl.create_default_context(cafile=str(self._authority.file))
        context.load_cert_chain(self._administrator.chain, self._administrator.key)
        # From an address of its own, as that of the tests may be blocked.
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=30, context=context, source_address=("127.0.0.9", 0)
        )

    def health(self) -> str:
        """As any node's, and empty while the plugin has no configuration."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            state = self.ask("GET", "/_plugins/_security/health")[1]
            return super().health() if state["status"] == "UP" else ""
        return ""

    def add(
        self,
        user: str,
        password: str,
        *,
        cluster: Sequence[str] = (),
        index: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Make a user, or change one: rights of the whole cluster, and of indexes."""
        rights = [
            {"index_patterns": [name], "allowed_actions": list(actions)}
            for name, actions in (index or {}).items()
        ]
        role = {"cluster_permissions": list(cluster), "index_permissions": rights}
        self._put(f"/internalusers/{user}", {"password": password})
        self._put(f"/roles/{user}", role)
        self._put(f"/rolesmapping/{user}", {"users": [user]})

    def token(self, user: str, key: bytes = KEY) -> str:
        """A token of a user (JWT, HS256), signed by the key that it trusts, or another one."""
        parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": user})
        signed = b".".join(_in_url(json.dumps(part).encode()) for part in parts)
        signature = hmac.digest(key, signed, "sha256")
        return b".".join((signed, _in_url(signature))).decode()

    def limit(self, **listener: object) -> None:
        """Block who fails to log in too often; without an argument nobody any more."""
        value = {"tests": listener} if listener else {}
        path = "/config/dynamic/auth_failure_listeners"
        change = {"op": "replace", "path": path, "value": value}
        status, answer = self.ask("PATCH", f"{API}/securityconfig", [change])
        assert status == 200, answer

    def _put(self, path: str, body: object) -> None:
        status, answer = self.ask("PUT", f"{API}{path}", body)
        assert status in (200, 201), answer


def _in_url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
