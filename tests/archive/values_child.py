"""A process that archives values and dies by SIGKILL at its n-th step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from maintenance_defs.archive.values import acting
from maintenance_defs.databases.archiving import ArchiveDatabase
from tests.archive.values_world import World, declared

WRITES = ("plan_values", "prove_values", "mark_values")


class Steps:
    """Before and after each record, each object, each transaction there is a step."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*given: Any, **more: Any) -> Any:
            self.step()
            found = call(*given, **more)
            self.step()
            return found

        return stepping

    def install(self, world: World) -> None:
        state: Any = world.home.control.archive
        for name in WRITES:
            setattr(state, name, self.around(getattr(state, name)))
        opened = acting.open_archive_store

        def open_store(*given: Any) -> Any:
            store: Any = opened(*given)
            for name in ("create", "remove"):
                setattr(store, name, self.around(getattr(store, name)))
            return store

        acting.open_archive_store = open_store  # type: ignore[assignment]
        transaction = ArchiveDatabase.transaction

        @contextmanager
        def stepping(database: ArchiveDatabase, **more: Any) -> Iterator[Any]:
            with transaction(database, **more) as connection:
                yield connection
                self.step()  # nothing is committed yet
            self.step()

        ArchiveDatabase.transaction = stepping  # type: ignore[method-assign, assignment]
        acting.AT_ONCE = 1


def main(url: str, folder: str, at: int, as_of: datetime, keep: str) -> None:
    world = World(url, Path(folder), declared(keep=keep))
    Steps(at).install(world)
    world.run(as_of)
