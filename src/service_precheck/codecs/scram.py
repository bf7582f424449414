"""SCRAM: a login that shows the password to nobody, and proves the server as well.

RFC 5802 (SCRAM-SHA-1), RFC 7677 (SCRAM-SHA-256); SHA-512 as Kafka has it. Without channel binding.
How the four messages travel is each protocol's own.
"""

from __future__ import annotations

from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64

from .. import digests
from ..errors import blocked
from ..net import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..errors import NotReady

_DIGESTS = {
    "SCRAM-SHA-1": ("sha1", digests.sha1),
    "SCRAM-SHA-256": ("sha256", digests.sha256),
    "SCRAM-SHA-512": ("sha512", digests.sha512),
}
MECHANISMS = tuple(_DIGESTS)
# RFC 7677 section 4 asks for 4,096 at least; servers of today have 4,096 to 15,000. Neither a deadline
# nor a signal interrupts them: these take OpenSSL up to 0.4 s for SHA-512.
MOST_ROUNDS = 100_000
_NONCE_BYTES = 18
# Salted passwords by what they were made of: the next attempt is likely to meet the same salt, and the
# rounds are most of what a login costs us (RFC 5802 section 3 allows to keep them).
_salted: dict[tuple[str, bytes, bytes, int], bytes] = {}
_MOST_SALTED = 64


class Scram:
    """One login. `first()` is sent, `final(server_first)` is sent, `verify(server_final)` ends it.

    `user` may be empty where the protocol has told it already. `password` is as the server stored it:
    prepared by the caller where the protocol asks for more than UTF-8. `peer` is the server for people.
    `least` is the lowest count of rounds that is taken: a false server that asks for one gets a proof
    that the password is easily guessed from.
    """

    __slots__ = ("_bare", "_hash", "_least", "_name", "_nonce", "_password", "_signature", "peer")

    def __init__(
        self, mechanism: str, user: str, password: str, peer: str, *, least: int = 4096
    ) -> None:
        self._name, self._hash = _DIGESTS[mechanism]
        self._password = password.encode()
        self._nonce = b2a_base64(os.urandom(_NONCE_BYTES), newline=False)
        escaped = user.replace("=", "=3D").replace(",", "=2C").encode()
        self._bare = b"n=%b,r=%b" % (escaped, self._nonce)
        self._signature = b""
        self._least = least
        self.peer = peer

    def first(self) -> bytes:
        """The client's first message."""
        return b"n,," + self._bare

    def final(self, server_first: bytes) -> bytes:
        """The client's final message, for the server's first. Raises `protocol`, `unsupported`."""
        fields = _fields(server_first)
        nonce, salt_text, rounds_text = (fields.get(key, b"") for key in (b"r", b"s", b"i"))
        try:
            salt = a2b_base64(salt_text)
        except NotBase64:
            salt = b""
        # Longer than any server's is as good as that, and short enough for `int`.
        rounds = int(rounds_text[:8]) if rounds_text.isdigit() else 0
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or not salt:
            raise self._odd("an answer that does not follow from the question")
        if rounds < self._least:
            raise self._odd(f"a count of rounds below {self._least}")
        if rounds > MOST_ROUNDS:
            seen = f"{self.peer} asks for {rounds_text[:8].decode()} rounds in the login (SCRAM)"
            hint = "store the password anew with fewer: a user for the gate can have 4096"
            raise blocked("unsupported", f"{seen}, at most {MOST_ROUNDS} are made here", hint)
        salted = _salt(self._name, self._password, salt, rounds)
        client_key = digests.hmac(self._name, salted, b"Client Key")
        without_proof = b"c=biws,r=" + nonce
        signed = b",".join((self._bare, server_first, without_proof))
        signature = digests.hmac(self._name, self._hash(client_key), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = digests.hmac(self._name, salted, b"Server Key")
        self._signature = digests.hmac(self._name, server_key, signed)
        return without_proof + b",p=" + b2a_base64(proof, newline=False)

    def verify(self, server_final: bytes) -> None:
        """See that the server knows the password, too. Raises `auth-refused`, `protocol`."""
        fields = _fields(server_final)
        if b"e" in fields:
            why = fields[b"e"].decode("utf-8", "replace")
            raise blocked("auth-refused", f"{self.peer} refused the login: {why}")
        if fields.get(b"v") != b2a_base64(self._signature, newline=False):
            raise self._odd("no proof that it knows the password itself")

    def _odd(self, what: str) -> NotReady:
        return blocked("protocol", f"{self.peer} sent {what} in the login (SCRAM)")


def _salt(name: str, password: bytes, salt: bytes, rounds: int) -> bytes:
    key = (name, password, salt, rounds)
    salted = _salted.get(key)
    if salted is None:
        salted = digests.pbkdf2(*key)
        if len(_salted) >= _MOST_SALTED:
            _salted.clear()
        _salted[key] = salted
    return salted


def _fields(message: bytes) -> dict[bytes, bytes]:
    return {part[:1]: part[2:] for part in message.split(b",") if part[1:2] == b"="}
