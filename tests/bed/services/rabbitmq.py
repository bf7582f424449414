"""RabbitMQ of Debian: `with RabbitMQ() as rabbit`, a node of its own data, ports and epmd.

    with RabbitMQ() as rabbit:
        rabbit.user("app", "s3cret")                    # with all rights in the vhost /
        rabbit.connect("app", "s3cret").channel()       # pika
        rabbit.eval("rabbit_alarm:get_alarms()")        # Erlang, in the node: some milliseconds

`stop()`, `kill()` (SIGKILL) and `start()` take it down and bring it back; `launch()` starts it and waits
for nothing. Further settings are lines of rabbitmq.conf. With a certificate it speaks TLS at `tls_port`
too, and takes client certificates of that authority for logins (EXTERNAL, by their common name).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pika
import pytest

from tests.bed.daemon import Daemon
from tests.bed.ports import free_port
from tests.bed.process import need

if TYPE_CHECKING:
    from types import TracebackType

    from tests.bed.tls import Authority

# The one in PATH insists on its own user and folders.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
COOKIE = "SERVICEPRECHECKBED"
CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{port}
distribution.listener.interface = 127.0.0.1
loopback_users = none
disk_free_limit.absolute = 1MB
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
"""
TLS_CONFIGURATION = """
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
auth_mechanisms.3 = EXTERNAL
ssl_cert_login_from = common_name
"""


class RabbitMQ:
    """A broker; see the module's docstring."""

    def __init__(
        self, *settings: str, authority: Authority | None = None, beside: RabbitMQ | None = None
    ) -> None:
        self._settings = settings
        self._authority = authority
        # Nodes of a cluster find each other by the epmd that they share.
        self._epmd: int = free_port() if beside is None else beside._epmd

    def __enter__(self) -> Self:
        need("rabbitmq-server", "rabbitmq-server")
        if not PROGRAM.exists():
            pytest.skip(f"needs {PROGRAM} (Debian package rabbitmq-server)")
        self.port, self.tls_port, self._distribution = free_port(), free_port(), free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="bed-mq-"))
        try:
            self._prepare()
            self._daemon = Daemon(*self._argv(), env=self._environment()).__enter__()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        try:
            self.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Nothing of it is needed any more.
        self._daemon.stop(signal.SIGKILL)
        self._daemon.__exit__(kind, error, traceback)
        shutil.rmtree(self.folder)

    def _prepare(self) -> None:
        text = CONFIGURATION.format(port=self.port)
        plugins = "[]."
        if self._authority is not None:
            text += TLS_CONFIGURATION.format(port=self.tls_port, folder=self.folder)
            plugins = "[rabbitmq_auth_mechanism_ssl]."
            certificate = self._authority.issue()
            shutil.copy(self._authority.file, self.folder / "ca.pem")
            shutil.copy(certificate.chain, self.folder / "server.pem")
            shutil.copy(certificate.key, self.folder / "server.key")
        (self.folder / "rabbitmq.conf").write_text("\n".join((text, *self._settings, "")))
        (self.folder / "plugins").write_text(plugins)
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(COOKIE)
        cookie.chmod(0o400)
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, "rabbitmq", "rabbitmq")

    def _argv(self) -> list[str]:
        words = []
        if os.geteuid() == 0:
            words = ["setpriv", "--reuid=rabbitmq", "--regid=rabbitmq", "--clear-groups"]
        # Its own epmd, in its group of processes; else it would start one that stays behind.
        script = 'epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 & exec "$0"'
        return [*words, "sh", "-c", script, str(PROGRAM)]

    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "HOME": folder,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            # Two schedulers that do not spin: other tests share the processors.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    @property
    def node(self) -> str:
        """Its name among Erlang's nodes."""
        return f"bed{self.port}@localhost"

    @property
    def place(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def tls_place(self) -> str:
        """`host:port` of its listener for TLS, by a name that its certificate has."""
        return f"localhost:{self.tls_port}"

    @property
    def daemon(self) -> Daemon:
        """Its process."""
        return self._daemon

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._daemon.log

    def wait(self) -> None:
        """Return once its port accepts, which it opens last."""
        self._daemon.wait_until(self._accepts, 60)
        # It drops lines above five hundred a second, and here they are counted.
        self.eval(
            "logger:update_handler_config(rmq_1_stdout, config, #{burst_limit_enable => false, "
            "drop_mode_qlen => 100000, flush_qlen => 100000})"
        )

    def _accepts(self) -> bool:
        # A connection that says nothing is nothing for its log.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            return True
        return False

    def launch(self) -> None:
        """Start it again, and wait for nothing."""
        self._daemon.start()

    def start(self) -> None:
        """Start it again."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """End it in order."""
        self._daemon.stop()

    def kill(self) -> None:
        """End it by SIGKILL; its processes are gone when this returns."""
        self._daemon.stop(signal.SIGKILL)

    def eval(self, *expressions: str) -> str:
        """Evaluate Erlang in the node; the value of the last as text."""
        done = subprocess.run(
            [
                *(need("erl_call", "erlang-base"), "-address", f"localhost:{self._distribution}"),
                *("-c", COOKIE, "-e"),
            ],
            input=", ".join(expressions) + ".\n",
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.stdout.startswith("{ok, "), done.stdout + done.stderr
        return done.stdout.removeprefix("{ok, ").removesuffix("}")

    def join(self, other: RabbitMQ) -> None:
        """Leave its own cluster, with all that is there, for the other's."""
        joined = f"rabbit_mnesia:join_cluster('{other.node}', disc)"
        self.eval("rabbit:stop()", joined, "rabbit:start()")
        self.wait()

    def vhost(self, name: str) -> None:
        """Make a virtual host."""
        self.eval(f'rabbit_vhost:add(<<"{name}">>, <<"bed">>)')

    def user(
        self, name: str, password: str, vhost: str = "/", rights: tuple[str, str, str] = (".*",) * 3
    ) -> None:
        """Make a user with rights to configure, write and read in a virtual host."""
        given = ", ".join(f'<<"{right}">>' for right in rights)
        self.eval(
            f'rabbit_auth_backend_internal:put_user(#{{name => <<"{name}">>, '
            f'password => <<"{password}">>, tags => []}}, <<"bed">>)'
        )
        self.eval(
            f'rabbit_auth_backend_internal:set_permissions(<<"{name}">>, <<"{vhost}">>, {given}, '
            f'<<"bed">>)'
        )

    def connect(
        self, user: str = "guest", password: str = "guest", vhost: str = "/"
    ) -> pika.BlockingConnection:
        """A connection of the driver."""
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1",
                self.port,
                vhost,
                pika.PlainCredentials(user, password),
                connection_attempts=1,
                socket_timeout=5,
                stack_timeout=10,
                blocked_connection_timeout=2,
            )
        )

    @property
    def version(self) -> str:
        """Product and version, as `tested.toml` has it."""
        return f"RabbitMQ {self.eval('list_to_atom(rabbit_misc:version())').strip(chr(39))}"
