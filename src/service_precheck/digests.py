"""Digests for logins, from the interpreter's own C modules.

`hashlib` costs 5 ms to import and `_hashlib` (OpenSSL's) 3 ms and 3.6 MiB, so what a login needs one
digest for comes from the modules that are built in. Only SCRAM's thousands of rounds are worth
OpenSSL's: 15,000 of them take a tenth of the time there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def md5(data: bytes) -> bytes:
    """MD5 (RFC 1321), 16 bytes."""
    import _md5

    return _md5.md5(data).digest()


def sha1(data: bytes) -> bytes:
    """SHA-1 (FIPS 180-4), 20 bytes."""
    import _sha1

    return _sha1.sha1(data).digest()


def sha256(data: bytes) -> bytes:
    """SHA-256 (FIPS 180-4), 32 bytes."""
    return _sha2("sha256")(data).digest()  # type: ignore[attr-defined,no-any-return]


def sha512(data: bytes) -> bytes:
    """SHA-512 (FIPS 180-4), 64 bytes."""
    return _sha2("sha512")(data).digest()  # type: ignore[attr-defined,no-any-return]


def _sha2(name: str) -> Callable[[bytes], object]:
    """The constructor; CPython 3.12 put the family into one module."""
    try:
        module = __import__("_sha2")
    except ImportError:
        module = __import__(f"_{name}")
    constructor: Callable[[bytes], object] = getattr(module, name)
    return constructor


def hmac(name: str, key: bytes, data: bytes) -> bytes:
    """HMAC (RFC 2104) with the digest `name`: sha1, sha256, sha512."""
    import _hashlib

    return _hashlib.hmac_digest(key, data, name)


def pbkdf2(name: str, password: bytes, salt: bytes, rounds: int) -> bytes:
    """PBKDF2 (RFC 8018 section 5.2) with HMAC and the digest `name`, of the digest's own length."""
    import _hashlib

    return _hashlib.pbkdf2_hmac(name, password, salt, rounds)
