"""PgBouncer, with transaction pooling: every transaction may run in another session of the
server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
import typing as t
from pathlib import Path

import sqlalchemy as sa

from .servers import START_TIMEOUT, free_port

_CONFIG = """
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users.txt
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
server_login_retry = 1
logfile = {directory}/pgbouncer.log
pidfile = {directory}/pgbouncer.pid
"""


class Pooler:
    """PgBouncer in front of a server, at a port that stays the same.

    :param directory: For its configuration and its log.
    :param server_url: Where PostgreSQL is.
    :param pool_size: Sessions that it has on the server, for each database and account.
    """

    def __init__(self, directory: Path, server_url: str | sa.URL, *, pool_size: int = 4) -> None:
        self._directory, self._pool_size = directory, pool_size
        self._server_url = sa.make_url(server_url)
        self._process: subprocess.Popen[t.Any] | None = None
        self.port = free_port()
        url = self._server_url.set(host="127.0.0.1", port=self.port, query={})
        self.url = url.render_as_string(hide_password=False)
        """For SQLAlchemy."""

    def start(self) -> None:
        config = self._directory / "pgbouncer.ini"
        values = {"server": self._server(), "port": self.port, "directory": self._directory}
        config.write_text(_CONFIG.format(**values, pool_size=self._pool_size))
        (self._directory / "users.txt").write_text(
            f'"{self._server_url.username}" "{self._server_url.password or ""}"'
        )
        account = self._account()
        if account:
            os.chown(self._directory, account["user"], account["group"])
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert program is not None, "Debian's package pgbouncer is missing"
        self._process = process = subprocess.Popen(
            [program, "--quiet", str(config)], cwd="/", **account
        )
        end = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def _account(self) -> dict[str, t.Any]:
        """The account that runs it where root runs the tests: PgBouncer refuses to run as root."""
        if os.geteuid() != 0:
            return {}
        host = self._host()
        if host.startswith("/"):
            owner = os.stat(host)  # others may not be let to the socket
            return {"user": owner.st_uid, "group": owner.st_gid}
        entry = pwd.getpwnam("nobody")
        return {"user": entry.pw_uid, "group": entry.pw_gid}

    def _host(self) -> str:
        url = self._server_url
        return url.host or t.cast(str, url.query.get("host", "127.0.0.1"))

    def _server(self) -> str:
        """The address of the server, as PgBouncer's configuration names it."""
        url = self._server_url
        parts = {"host": self._host(), "port": url.port or url.query.get("port", 5432)}
        return " ".join(f"{name}={value}" for name, value in parts.items())
