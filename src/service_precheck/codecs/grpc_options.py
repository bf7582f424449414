"""What a target of gRPC may say: its options, its metadata, and the mistakes that the option table
cannot tell."""

from __future__ import annotations

from ..access import ON_AUTH_REFUSED, check_tls
from ..errors import blocked
from ..model import keep_secret
from ..options import PATH, TEXT, Kind, Option, Target, Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .grpc import Metadata

# PROTOCOL-HTTP2.md, "Custom-Metadata".
_NAME_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyz_-.")
_RESERVED = frozenset(("content-type", "te", "user-agent", "connection", "host"))


def _read_metadata(text: str) -> str:
    value = text.partition(":")[2]
    keep_secret(value.strip())
    keep_secret(value.rpartition(" ")[2])
    return text


def _read_metadata_file(text: str) -> str:
    name, _, path = text.partition("=")
    if _fault(name, "") or not path:
        raise Wrong(f"{text!r} is no NAME=PATH; write for example x-api-key=/run/secrets/key")
    return text


def _read_authority(text: str) -> str:
    if not (text.isascii() and text.isprintable()) or " " in text or not text:
        raise Wrong(f"{text!r} is no authority; write HOST or HOST:PORT")
    return text


OPTIONS = (
    Option("service", TEXT, "the service that must serve, instead of the server as a whole"),
    Option(
        "authority",
        Kind("HOST", _read_authority),
        "the name to ask the server by (:authority), instead of the target's host and port",
    ),
    Option(
        "metadata",
        Kind("NAME: VALUE", _read_metadata),
        "a field of metadata to send",
        many=True,
        secret=True,
    ),
    Option(
        "metadata-file",
        Kind("NAME=PATH", _read_metadata_file),
        "a field of metadata to send whose value is in a file",
        many=True,
    ),
    Option("token-file", PATH, "a file with a token to log in with (Bearer)"),
    ON_AUTH_REFUSED,
)


def check(target: Target) -> tuple[str, ...]:
    """What the option table cannot say. Values of metadata are never repeated: they may be secret."""
    wrong = []
    names = [text.partition("=")[0] for text in target.texts("metadata-file")]
    for text in target.texts("metadata"):
        name, colon, value = text.partition(":")
        names.append(name)
        if fault := _fault(name, value.strip()) or ("" if colon else "a colon is missing"):
            wrong.append(f"#metadata=: {fault}; #metadata=name: value")
    if target.text("token-file") and "authorization" in names:
        wrong.append("more than one login: #token-file= besides metadata called authorization")
    if target.scheme.name == "grpcs":
        wrong += check_tls(target)
        if any(name != "h2" for name in target.texts("alpn")):
            wrong.append("#alpn= other than h2, which is what gRPC speaks")
    return tuple(wrong)


def metadata(target: Target) -> Metadata:
    """What the target sends along, its secrets read anew. Raises NotReady (`local`)."""
    fields = []
    for text in target.texts("metadata"):
        name, _, value = text.partition(":")
        fields.append((name, value.strip()))
    for text in target.texts("metadata-file"):
        from . import credentials

        name, _, path = text.partition("=")
        fields.append((name, credentials.from_file(path)))
    if path := target.text("token-file"):
        from . import credentials

        fields.append(("authorization", f"Bearer {credentials.from_file(path)}"))
    for name, value in fields:
        if fault := _fault(name, value):
            raise blocked("local", f"{fault}, and cannot be sent")
    return tuple(fields)


def _fault(name: str, value: str) -> str:
    """What is wrong with a field of metadata, empty if nothing. The value is not repeated."""
    if not name or not _NAME_CHARACTERS.issuperset(name):
        return f"{name!r} is no name of metadata: a-z, 0-9 and _-. are"
    if name in _RESERVED or name.startswith("grpc-"):
        return f"{name} is the protocol's own"
    if not (value.isascii() and value.isprintable()):
        return f"the value of {name} holds what is not printable ASCII"
    return ""
