"""RSA with OAEP (RFC 8017 section 7.1.1, SHA-1), for a password and the key that a server sent.

What `caching_sha2_password` and `sha256_password` ask for where there is no TLS. Encrypting is one
`pow`, and nothing here is secret but what is encrypted.
"""

from __future__ import annotations

from binascii import Error as NotBase64
from binascii import a2b_base64

from ...digests import sha1
from ...net import os

_SEQUENCE, _INTEGER, _BIT_STRING = 0x30, 0x02, 0x03
_HASH = 20
# Servers make keys of 2048 bits. A longer one than this would only take our time.
_LEAST_BITS, _MOST_BITS = 1024, 16_384
_MOST_EXPONENT_BITS = 32


def encrypted(message: bytes, pem: bytes) -> bytes:
    """`message` for the owner of a public key (PEM, RFC 7468). Raises ValueError, with words for people."""
    modulus, exponent = _public_key(pem)
    size = (modulus.bit_length() + 7) // 8
    room = size - 2 * _HASH - 2
    if len(message) > room:
        raise ValueError(f"the password is too long for its key: {room - 1} bytes fit")
    block = sha1(b"") + bytes(room - len(message)) + b"\x01" + message
    seed = os.urandom(_HASH)
    masked_block = _xor(block, _mask(seed, len(block)))
    masked_seed = _xor(seed, _mask(masked_block, _HASH))
    number = int.from_bytes(masked_seed + masked_block, "big")
    return pow(number, exponent, modulus).to_bytes(size, "big")


def _public_key(pem: bytes) -> tuple[int, int]:
    """Modulus and exponent of a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7)."""
    _, _, armoured = pem.partition(b"-----BEGIN PUBLIC KEY-----")
    body, end, _ = armoured.partition(b"-----END PUBLIC KEY-----")
    try:
        info, _ = _element(a2b_base64(body), _SEQUENCE) if end else (b"", b"")
        _, after_algorithm = _element(info, _SEQUENCE)
        bits, _ = _element(after_algorithm, _BIT_STRING)
        key, _ = _element(bits[1:], _SEQUENCE)
        modulus, rest = _element(key, _INTEGER)
        exponent, _ = _element(rest, _INTEGER)
    except (ValueError, NotBase64) as error:
        raise ValueError("it sent no public key") from error
    n, e = int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")
    if not _LEAST_BITS <= n.bit_length() <= _MOST_BITS or e.bit_length() > _MOST_EXPONENT_BITS:
        raise ValueError(f"its public key has {n.bit_length()} bits")
    return n, e


def _element(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element (ITU-T X.690) and what follows it. Raises ValueError."""
    if len(der) < 2 or der[0] != tag:
        raise ValueError("another element")
    size, at = der[1], 2
    if size & 0x80:
        at += size & 0x7F
        size = int.from_bytes(der[2:at], "big")
    if len(der) < at + size:
        raise ValueError("cut short")
    return der[at : at + size], der[at + size :]


def _mask(seed: bytes, size: int) -> bytes:
    """MGF1 (RFC 8017 appendix B.2.1)."""
    blocks = (sha1(seed + number.to_bytes(4, "big")) for number in range(size // _HASH + 1))
    return b"".join(blocks)[:size]


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
