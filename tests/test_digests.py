"""Digests: those of the standard library, on every CPython found here."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from service_precheck import digests


@given(data=st.binary())
def test_they_are_the_standard_library_s(data: bytes) -> None:
    """Each digest of any data is that of `hashlib`."""
    for name in ("md5", "sha1", "sha256", "sha512"):
        assert getattr(digests, name)(data) == hashlib.new(name, data).digest()


@given(key=st.binary(min_size=1), data=st.binary())
def test_keyed(key: bytes, data: bytes) -> None:
    """HMAC and PBKDF2 are those of the standard library."""
    for name in ("sha1", "sha256", "sha512"):
        assert digests.hmac(name, key, data) == hmac.digest(key, data, name)
        assert digests.pbkdf2(name, key, data, 3) == hashlib.pbkdf2_hmac(name, key, data, 3)


def test_many_rounds() -> None:
    """Whether few rounds or many, and whichever module counts them, PBKDF2 is the same."""
    for rounds in (1, digests.MOST_ROUNDS_HERE, digests.MOST_ROUNDS_HERE + 1):
        for name in ("sha1", "sha256", "sha512"):
            known = hashlib.pbkdf2_hmac(name, b"pass", b"salt", rounds)
            assert digests.pbkdf2(name, b"pass", b"salt", rounds) == known
