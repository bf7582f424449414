"""How a target gets in: the options about TLS and logins that many schemes share.

What they mean is the same everywhere; how a login is spoken is each protocol's own.
"""

from __future__ import annotations

from .errors import NotReady
from .model import keep_secret
from .net import stamp
from .options import COUNT, FLAG, PATH, TEXT, VARIABLE, Kind, Option, Target, Wrong, choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .tls import Settings

TLS_OPTIONS = (
    Option("ca", PATH, "a file of certificates to trust instead of the system's"),
    Option("server-name", TEXT, "the name asked for and expected, instead of the host"),
    Option("min-days", COUNT, "how many days the certificate must still be valid"),
    Option("alpn", TEXT, "a protocol to offer that the server must choose", many=True),
    Option("cert", PATH, "a file with the client's certificate (PEM)"),
    Option("key", PATH, "a file with its key (PEM), if it is not in the same file"),
    Option("insecure", FLAG, "accept any certificate", False),
)
# For schemes in which `key` is one that something is stored under.
TLS_OPTIONS_BESIDE_KEY = tuple(
    Option("cert-key", row.kind, row.meaning) if row.name == "key" else row for row in TLS_OPTIONS
)
# For protocols that have no scheme of their own for it; any of the others means it too.
TLS = Option("tls", FLAG, "speak TLS; any other option of TLS means it too", False)
# For protocols in which the server offers TLS in the middle of the conversation.
STARTTLS = Option(
    "tls",
    choice("prefer", "require", "off"),
    "prefer: use TLS where the server offers it, its certificate unchecked, as the field's clients do; "
    "require: only with TLS and a certificate that is trusted, which any other option of TLS means too",
    "prefer",
)


def _read_user(text: str) -> str:
    # A password does not belong here, and is often put here.
    keep_secret(text.partition(":")[2])
    if not text:
        raise Wrong("it is empty")
    return text


LOGIN_OPTIONS = (
    Option("user", Kind("TEXT", _read_user), "the user to log in as"),
    Option("password-file", PATH, "a file with the user's password"),
    Option("password-env", VARIABLE, "an environment variable with the user's password"),
)
ON_AUTH_REFUSED = Option(
    "on-auth-refused",
    choice("wait", "fail"),
    "wait: ask ever more rarely, since the account may come later; fail: a refused login is final",
    "wait",
)
# What is wrong with such a target, and what to do where a server wants more than the user.
USER_ALONE = "a user without a password: #password-file=PATH or #password-env=NAME"


def check_login(
    target: Target, *, user_alone: bool = False, password_alone: bool = False
) -> tuple[str, ...]:
    """What the table of `LOGIN_OPTIONS` cannot say. With `user_alone` a user needs no password, with
    `password_alone` a password no user."""
    wrong = []
    user = target.text("user") or target.user
    passwords = [name for name in ("password-file", "password-env") if target.text(name)]
    if target.user and target.text("user"):
        wrong.append("#user= besides a user before the host")
    if len(passwords) + bool(target.password) > 1:
        wrong.append("more than one password")
    if passwords and not user and not password_alone:
        wrong.append(f"#{passwords[0]}= without a user: #user=NAME")
    if target.password and not user and not password_alone:
        wrong.append("a password without a user: #user=NAME")
    if user and not (passwords or target.password or user_alone):
        wrong.append(USER_ALONE)
    if not (user + target.password).isprintable():
        wrong.append("a character that cannot be seen in the user's name or password")
    return tuple(wrong)


def check_needs_login(
    target: Target, names: tuple[str, ...], path: str, *, certificate: bool = False
) -> tuple[str, ...]:
    """What nobody is told without a login, and so can never hold: the options among `names`, and what the
    path says, which is called `path` (empty: it says nothing). A `certificate` may be the login."""
    if target.text("user") or target.user or target.password or certificate:
        return ()
    asked = [f"#{name}{'' if target.flag(name) else '='}" for name in names if target.option(name)]
    asked += [path] if path else []
    return tuple(f"{what} without a user: #user=NAME" for what in asked)


def check_data_key(target: Target) -> tuple[str, ...]:
    """What is wrong where `key` is one that something is stored under, and is taken for the certificate's."""
    key = target.text("key")
    if (
        target.text("cert")
        and not target.text("cert-key")
        and key.startswith("/")
        and key.endswith((".key", ".pem"))
    ):
        right = "#cert-key= is the certificate's (the file of #cert= again where it is in there)"
        return (f"#key= is a key of the data here: {right}",)
    return ()


def _cert_key(target: Target) -> str:
    """What the option with the certificate's key is called."""
    return "key" if target.scheme.option("cert-key") is None else "cert-key"


def check_tls(target: Target) -> tuple[str, ...]:
    """What the table of `TLS_OPTIONS` cannot say."""
    wrong = []
    if target.text(_cert_key(target)) and not target.text("cert"):
        wrong.append(f"#{_cert_key(target)}= without #cert=: the certificate is missing")
    if target.flag("insecure") and target.text("ca"):
        wrong.append("#ca= with #insecure: either trust a file or trust anything")
    name = target.text("server-name")
    if not (name.isascii() and name.isprintable()) or name.startswith(".") or len(name) > 253:
        wrong.append("#server-name= is neither a name in ASCII nor an address")
    if any(len(text.encode()) > 255 for text in target.texts("alpn")):
        wrong.append("an #alpn= of more than 255 bytes")
    return tuple(wrong)


def tls_settings(target: Target, alpn: str = "") -> Settings:
    """What a target says about TLS; `alpn` is offered when it names nothing itself."""
    from .tls import Settings

    named = target.texts("alpn")
    return Settings(
        target.text("ca"),
        target.text("server-name"),
        int(target.number("min-days") or 0),
        named or ((alpn,) if alpn else ()),
        target.text("cert"),
        target.text(_cert_key(target)),
        target.flag("insecure"),
        not named,
    )


def without_tls(error: NotReady) -> NotReady:
    """An obstacle met in a handshake of TLS, with what to do where the port has none.

    Many servers take the first bytes of TLS for a length that is too much, and close the connection; some
    wait for as much to come.
    """
    plainly = "without #tls, or another option of TLS, it is asked plainly"
    verdict = error.verdict
    if verdict.cause == "tls-plaintext":
        return NotReady(verdict.but(hint=plainly))
    does = {"closed-early": "closes the connection so", "no-reply": "may stay silent so"}
    if verdict.cause in does and not verdict.hint:
        return NotReady(verdict.but(hint=f"a port without TLS {does[verdict.cause]}: {plainly}"))
    return error


# Files that could be used, by their paths, and what told them from others.
_usable: dict[tuple[str, ...], tuple[object, ...]] = {}


def try_tls_files(target: Target) -> None:
    """See that the files about TLS that a target names can be used, whoever can be reached. They are read
    again when they have changed, since they rotate. Raises NotReady (`local`)."""
    if not any(name in ("ca", "cert") for name, _ in target.given):
        return
    paths = tuple(target.text(name) for name in ("ca", "cert", _cert_key(target)))
    stamps = tuple(map(stamp, paths))
    if _usable.get(paths) != stamps:
        from .tls import Settings, context_of

        # Of anybody: the system's own certificates are not read.
        context_of(Settings(ca=paths[0], cert=paths[1], key=paths[2], insecure=True))
        _usable[paths] = stamps


def wants_tls(target: Target) -> bool:
    """Whether a target of a scheme with the option `TLS` or `STARTTLS` insists on TLS."""
    names = {option.name for option in TLS_OPTIONS} - {"key"} | {_cert_key(target)}
    return target.option("tls") in (True, "require") or any(
        name in names and value is not False for name, value in target.given
    )


def check_tls_choice(target: Target) -> tuple[str, ...]:
    """As `check_tls`, for a scheme with the option `TLS` or `STARTTLS`."""
    given = [value for name, value in target.given if name == "tls"]
    if given and given[0] in (False, "off", "prefer") and wants_tls(target):
        if given[0] == "prefer":
            does = "#tls=prefer speaks TLS where it is offered, the certificate unchecked"
            return (f"{does}, and another option of TLS wants more: leave #tls= out",)
        return ("#tls= says no, and another option of TLS says yes",)
    return check_tls(target)
