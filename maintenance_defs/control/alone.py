"""One run of a system at a time, whichever process, schedule or person starts it (M04).

Safety does not rest on this: a diff checks that its inputs belong together (I4). It spares a
second listing of the same bucket, and two runs that refuse each other's inputs. The lock ends with
the process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import sqlalchemy as sa

from maintenance_defs.core.errors import Busy

POLL_SECONDS = 0.2


@contextmanager
def alone(engine: sa.Engine, system: str, wait_seconds: float = 0) -> Iterator[None]:
    """No other process that uses this control database works on the system meanwhile.

    wait_seconds: how long to wait for one that does.
    Raises Busy.
    """
    attempt = _postgres if engine.dialect.name == "postgresql" else _sqlite
    deadline = time.monotonic() + wait_seconds
    with ExitStack() as held:
        while not attempt(engine, system, held):
            if time.monotonic() >= deadline:
                raise Busy(
                    f"{system} is being reconciled by another process right now. Nothing was read. Run this again "
                    f"when it is done; `maintain report {system} --last` tells of the last reconciliation."
                )
            time.sleep(POLL_SECONDS)
        yield


def _sqlite(engine: sa.Engine, system: str, held: ExitStack) -> bool:
    """A lock on a file beside the database; SQLite itself has none that outlives a transaction."""
    lock = Path(f"{engine.url.database}.{system}.lock").open("w")  # noqa: SIM115 (closed by `held`)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return False
    held.callback(lock.close)
    return True


def _postgres(engine: sa.Engine, system: str, held: ExitStack) -> bool:
    """An advisory lock of a transaction that stays open: one of a session would be lost behind a pooler."""
    connection = engine.connect()
    try:
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        taken = connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_number(system)))).scalar_one()
    except BaseException:
        connection.close()
        raise
    if taken:
        held.callback(_end, connection)
    else:
        connection.close()
    return bool(taken)


def _end(connection: sa.Connection) -> None:
    with suppress(sa.exc.DBAPIError):  # the server is gone, and the lock with it
        connection.close()


def _number(system: str) -> int:
    """The lock's number in the server, the same for every process."""
    digest = blake2b(f"maintenance/system/{system}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
