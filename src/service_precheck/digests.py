"""Digests for logins, from the interpreter's own C modules.

`hashlib` costs 5 ms to import and `_hashlib` (OpenSSL's) 2.4 ms and 3.6 MiB, so what a login needs
comes from the modules that are built in. A round of PBKDF2 takes 0.7 microseconds by them and 0.24 in
OpenSSL, so from some thousands of rounds on OpenSSL's is quicker, its loading included.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, Self

    class Digest(Protocol):
        """A digest under way."""

        def update(self, data: bytes, /) -> None:
            """Take in `data`."""

        def digest(self) -> bytes:
            """What has come of all that was taken in."""

        def copy(self) -> Self:
            """Another that has taken in the same."""


MOST_ROUNDS_HERE = 5000


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
    return _sha2("sha256")(data).digest()


def sha512(data: bytes) -> bytes:
    """SHA-512 (FIPS 180-4), 64 bytes."""
    return _sha2("sha512")(data).digest()


def _sha2(name: str) -> Callable[[bytes], Digest]:
    """The constructor; CPython 3.12 put the family into one module."""
    module = __import__("_sha2" if sys.hexversion >= 0x030C_0000 else f"_{name}")
    constructor: Callable[[bytes], Digest] = getattr(module, name)
    return constructor


def _keyed(name: str, key: bytes) -> tuple[Digest, Digest]:
    """The inner and the outer digest of HMAC, each begun with the key (RFC 2104 section 2)."""
    if name == "sha1":
        import _sha1

        new: Callable[[bytes], Digest] = _sha1.sha1
    else:
        new = _sha2(name)
    block = 128 if name == "sha512" else 64
    key = (new(key).digest() if len(key) > block else key).ljust(block, b"\0")
    return new(bytes(byte ^ 0x36 for byte in key)), new(bytes(byte ^ 0x5C for byte in key))


def hmac(name: str, key: bytes, data: bytes) -> bytes:
    """HMAC (RFC 2104) with the digest `name`: sha1, sha256, sha512."""
    inner, outer = _keyed(name, key)
    inner.update(data)
    outer.update(inner.digest())
    return outer.digest()


def pbkdf2(name: str, password: bytes, salt: bytes, rounds: int) -> bytes:
    """PBKDF2 (RFC 8018 section 5.2) with HMAC and the digest `name`, of the digest's own length."""
    if rounds > MOST_ROUNDS_HERE:
        import _hashlib

        return _hashlib.pbkdf2_hmac(name, password, salt, rounds)
    begun_inner, begun_outer = _keyed(name, password)
    inner_copy, outer_copy, number = begun_inner.copy, begun_outer.copy, int.from_bytes
    block = salt + b"\0\0\0\1"
    total = 0
    for _ in range(rounds):
        inner = inner_copy()
        inner.update(block)
        outer = outer_copy()
        outer.update(inner.digest())
        block = outer.digest()
        total ^= number(block, "big")
    return total.to_bytes(len(block), "big")
