"""What the parts of retention's state share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b

import sqlalchemy as sa


class Part:
    """One theme of the state; every method is one transaction, safe for several threads and processes."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection


def said(actor: str, reason: str, what: str) -> None:
    """Raises ValueError unless somebody says why."""
    if not actor.strip() or not reason.strip():
        raise ValueError(f"{what} needs an actor and a reason")


def same_person(one: str, other: str) -> bool:
    """Another spelling of the case or blanks makes no second person."""
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def key_hash(key: str | None) -> str | None:
    """Of the exact key: PostgreSQL indexes at most 2704 bytes."""
    return None if key is None else blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
