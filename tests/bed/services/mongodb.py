"""What speaks MongoDB's protocol: `FerretDB`, a real server, and `Member`, one that plays a part.

    with FerretDB(set_name="rs0") as db:
        db.client()                             # a pymongo client: the oracle
    with FerretDB(login=("root", "secret")) as db:
        db.add_user("app", "app-secret", "SCRAM-SHA-1")

FerretDB keeps its data in SQLite, or in the PostgreSQL that `backend` is the URL of. It is always a
standalone server or the primary of a set of one: MongoDB's own server is not to be had for these tests.
A `Member` is for what FerretDB cannot be. It says of itself what `says` holds (`secondary(...)` and the
like make that, field by field as MongoDB's reference of `hello` and its server's source have it), and
takes reads and writes as that lets it; `answers` replaces the answer to a command.
"""

from __future__ import annotations

import datetime
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import bson
import pymongo
import pytest

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.sockets import Connection, Server
from tools.servers import cache

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.bed.process import Wrapper
    from tests.bed.tls import Authority, Certificate

Document = dict[str, Any]
Client = pymongo.MongoClient[Document]


class FerretDB(Daemon):
    """The server; `place` is where it listens, in TLS if it has a certificate."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        set_name: str = "",
        login: tuple[str, str] = ("", ""),
        certificate: Certificate | None = None,
        demand: Authority | None = None,
        unix_socket: Path | None = None,
        backend: str = "",
        inside: Sequence[Wrapper] = (),
    ) -> None:
        program = cache() / "bin" / "ferretdb"
        if not program.exists():
            pytest.skip("needs FerretDB (python -m tools.servers services)")
        self._folder = tempfile.TemporaryDirectory(prefix="bed-ferretdb-")
        self._login = login
        self.port = free_port()
        self.place = f"{host}:{self.port}"
        words = ["--telemetry=disable", "--debug-addr=-", f"--state-dir={self._folder.name}"]
        if backend:
            words += ["--handler=postgresql", f"--postgresql-url={backend}"]
        else:
            words += ["--handler=sqlite", f"--sqlite-url=file:{self._folder.name}/"]
        if certificate is None:
            words += [f"--listen-addr={self.place}"]
        else:
            words += ["--listen-addr=", f"--listen-tls={self.place}"]
            words += [f"--listen-tls-cert-file={certificate.chain}"]
            words += [f"--listen-tls-key-file={certificate.key}"]
        if demand is not None:
            words += [f"--listen-tls-ca-file={demand.file}"]
        if unix_socket is not None:
            words += [f"--listen-unix={unix_socket}"]
        if set_name:
            words += [f"--repl-set-name={set_name}"]
        if login[0]:
            words += ["--test-enable-new-auth", "--setup-database=admin"]
            words += [f"--setup-username={login[0]}", f"--setup-password={login[1]}"]
        self._listeners = 1 if unix_socket is None else 2
        super().__init__(str(program), *words, inside=inside)

    def __enter__(self) -> Self:
        super().__enter__()
        self.wait_listening()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._folder.cleanup()

    def wait_listening(self) -> None:
        """Return once it listens, after a start or a restart; without asking it anything."""
        self.wait_until(
            lambda: (
                self.log.rpartition("Starting FerretDB")[2].count("Listening on") == self._listeners
            )
        )

    def client(self, **options: object) -> Client:
        """A driver's client, logged in if there is a login."""
        user, password = self._login
        if user:
            options = {"username": user, "password": password, **options}
        return client(f"mongodb://{self.place}/", **options)

    def add_user(self, name: str, password: str, *mechanisms: str, database: str = "admin") -> None:
        """Add a user of a database, who may log in by these mechanisms."""
        with self.client() as asking:
            asking[database].command(
                "createUser", name, pwd=password, roles=[], mechanisms=list(mechanisms)
            )

    @property
    def version(self) -> str:
        """FerretDB's own version."""
        with self.client() as asking:
            return str(asking.admin.command("buildInfo")["ferretdbVersion"]).removeprefix("v")


def client(url: str, **options: object) -> Client:
    """A driver's client that does not wait long for a server that fits."""
    patience: dict[str, object] = {"serverSelectionTimeoutMS": 700, "connectTimeoutMS": 500}
    return pymongo.MongoClient(url, **{**patience, "socketTimeoutMS": 2000, **options})  # type: ignore[arg-type]


# -- what members say of themselves

_ANY = {
    "maxBsonObjectSize": 16_777_216,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "connectionId": 42,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "readOnly": False,
    "ok": 1.0,
}
_WHEN = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)
_OPTIME = {"ts": bson.Timestamp(1_795_000_000, 1), "t": bson.Int64(1)}


def standalone(**fields: object) -> Document:
    """A server without a set."""
    return {"isWritablePrimary": True, **fields}


def router() -> Document:
    """A `mongos`."""
    return {"isWritablePrimary": True, "msg": "isdbgrid"}


def unconfigured() -> Document:
    """A member before `rs.initiate()`, or before it has loaded its set's configuration."""
    return {
        "isWritablePrimary": False,
        "secondary": False,
        "info": "Does not have a valid replica set config",
        "isreplicaset": True,
    }


def member(me: str, hosts: Sequence[str], name: str = "rs0", **fields: object) -> Document:
    """A member of a configured set that is neither primary nor secondary: it starts or recovers."""
    return {
        "hosts": list(hosts),
        "setName": name,
        "setVersion": 1,
        "isWritablePrimary": False,
        "secondary": False,
        "me": me,
        "lastWrite": {
            "opTime": _OPTIME,
            "lastWriteDate": _WHEN,
            "majorityOpTime": _OPTIME,
            "majorityWriteDate": _WHEN,
        },
        **fields,
    }


def primary(me: str, hosts: Sequence[str], name: str = "rs0", **fields: object) -> Document:
    """A primary."""
    known = {"isWritablePrimary": True, "primary": me, "electionId": bson.ObjectId()}
    return member(me, hosts, name, **known, **fields)


def secondary(
    me: str, hosts: Sequence[str], of: str = "", name: str = "rs0", **fields: object
) -> Document:
    """A secondary; `of` is the primary that it knows."""
    known = {"primary": of} if of else {}
    return member(me, hosts, name, secondary=True, **known, **fields)


def error(code: int, name: str, words: str) -> Document:
    """What a command answers that failed."""
    return {"ok": 0.0, "errmsg": words, "code": code, "codeName": name}


class Member(Server):
    """A server that plays a part; `asked` are the commands that it got."""

    def __init__(self, says: Document | None = None, *, opened: bool = True) -> None:
        super().__init__(self._converse, opened=opened)
        self.says = standalone() if says is None else says
        self.answers: dict[str, Document] = {}
        self.asked: list[str] = []

    def _converse(self, connection: Connection) -> None:
        held = b""
        while True:
            while len(held) < 16 or len(held) < struct.unpack("<i", held[:4])[0]:
                data = connection.read()
                if not data:
                    return
                held += data
            length, request, _, opcode = struct.unpack("<iiii", held[:16])
            message, held = held[16:length], held[length:]
            # A driver's first question still comes as OP_QUERY (2004), and is answered by OP_REPLY (1).
            old = opcode == 2004
            document = message[message.index(0, 4) + 9 :] if old else message[5:]
            size = struct.unpack("<i", document[:4])[0]
            asked: Document = bson.decode(document[:size])
            answer = bson.encode(self._answer(next(iter(asked))))
            before = struct.pack("<iqii", 8, 0, 0, 1) if old else b"\0" * 5
            head = struct.pack(
                "<iiii", 16 + len(before) + len(answer), 1, request, 1 if old else 2013
            )
            if not connection.write(head + before + answer):
                return

    def _answer(self, command: str) -> Document:
        self.asked.append(command)
        if command in self.answers:
            return self.answers[command]
        if command.lower() in ("hello", "ismaster"):
            return {**_ANY, "ismaster": self.says["isWritablePrimary"], **self.says}
        if command == "insert" and not self.says["isWritablePrimary"]:
            return error(10107, "NotWritablePrimary", "not primary")
        serves = self.says["isWritablePrimary"] or self.says.get("secondary")
        if command == "find" and not serves:
            return error(
                13436, "NotPrimaryOrSecondary", "node is not in primary or recovering state"
            )
        if command == "find":
            return {"cursor": {"id": bson.Int64(0), "ns": "shop.t", "firstBatch": []}, "ok": 1.0}
        if command in ("insert", "ping", "endSessions"):
            return {"n": 1, "ok": 1.0}
        return error(59, "CommandNotFound", f"no such command: '{command}'")
