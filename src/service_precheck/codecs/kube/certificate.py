"""Certificates and keys that stand in a text, as in a kubeconfig file, or come from its plugin.

OpenSSL reads keys from files only: these lie in memory, where no disk sees them.
"""

from __future__ import annotations

import os
import ssl

from ...errors import blocked


class Held:
    """A file in memory, at `path` until it is closed. Raises NotReady (`local`)."""

    def __init__(self, data: bytes) -> None:
        try:
            self._descriptor = os.memfd_create("kubeconfig", os.MFD_CLOEXEC)
            os.write(self._descriptor, data)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise blocked("local", f"a certificate cannot be kept in memory: {why}") from error
        self.path = f"/proc/self/fd/{self._descriptor}"

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


def fault_of_certificates(path: str) -> str:
    """Why a file's certificates cannot be used, empty if they can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return "is no certificate in PEM"
    except OSError as error:
        return f"cannot be read: {os.strerror(error.errno or 0)}"
    return ""


def fault_of_key(certificate: str, key: str) -> str:
    """Why a file's key cannot be used with the certificate of another, if there is one; empty if it can."""
    if not certificate:
        return "has no certificate"
    try:
        # Without a password OpenSSL would ask for one at the terminal, and wait.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, str)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return "is not that of the certificate"
        return "is no key in PEM, or an encrypted one"
    except OSError as error:
        return f"cannot be read: {os.strerror(error.errno or 0)}"
    return ""
