"""The cluster's certificates and kubeconfig files, made anew for each cluster."""

from __future__ import annotations

import datetime
import ipaddress
import json
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools.cluster import ADDRESSES, API, API_SERVICE, NODES, STATE, kubeconfig

if TYPE_CHECKING:
    from collections.abc import Sequence

PKI = STATE / "pki"
# Who talks to the API server: a user and the group that RBAC knows it by.
USERS = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "system:node-proxier",
    "kube-apiserver-kubelet-client": "system:masters",
    **{f"system:node:{node}": "system:nodes" for node in NODES},
}


class Authority:
    """The one authority of the cluster."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        self.certificate = (
            _builder(self.name, self.name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, file: str, user: str, group: str = "", names: Sequence[str] = ()) -> None:
        """Write `file.crt` and `file.key` for a user, or a server with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        if group:
            parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _builder(x509.Name(parts), self.name, key).add_extension(
            x509.ExtendedKeyUsage(usage), critical=False
        )
        if names:
            known = [_general_name(name) for name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(known), critical=False)
        _write(f"{file}.crt", _pem(builder.sign(self.key, hashes.SHA256())))
        _write(f"{file}.key", _key_pem(key))


def make() -> None:
    """Write all of it below `PKI`."""
    PKI.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    _write("ca.crt", _pem(authority.certificate))
    _write("ca.key", _key_pem(authority.key))
    tokens = ec.generate_private_key(ec.SECP256R1())
    _write("service-account.key", _key_pem(tokens))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    _write(
        "service-account.pub",
        tokens.public_key().public_bytes(serialization.Encoding.PEM, public),
    )
    inside = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
    names = (*inside, "kubernetes.default.svc.cluster.local", API_SERVICE, "127.0.0.1")
    authority.issue("kube-apiserver", "kube-apiserver", names=(*names, ADDRESSES["node-1"]))
    for node in NODES:
        authority.issue(f"kubelet-{node}", f"system:node:{node}", names=(node, ADDRESSES[node]))
    for user, group in USERS.items():
        file = user.replace(":", "-")
        authority.issue(file, user, group)
        held = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "cluster",
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": user}}],
            "clusters": [
                {
                    "name": "cluster",
                    "cluster": {"server": API, "certificate-authority": str(PKI / "ca.crt")},
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate": str(PKI / f"{file}.crt"),
                        "client-key": str(PKI / f"{file}.key"),
                    },
                }
            ],
        }
        kubeconfig(user).write_text(json.dumps(held))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=7))
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(name: str, data: bytes) -> None:
    path = Path(PKI, name)
    path.write_bytes(data)
    path.chmod(0o600)
