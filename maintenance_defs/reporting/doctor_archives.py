"""What doctor says of archives: the signs that their asset checks show, and the store as it is at this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from maintenance_defs.archive.declared import find_store
from maintenance_defs.archive.watching.agreement import AGREEMENT, by_store, store_agrees, together
from maintenance_defs.archive.watching.health import PUBLISHED, PUBLISHED_WORDS, SIGNS, Sign, published, signs
from maintenance_defs.control.archive import FileRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.core.retention_rules import enabled_by
from maintenance_defs.reporting.finding import Finding
from maintenance_defs.reporting.text import shown
from maintenance_defs.stores import open_store

LAST = chr(0x10FFFF)  # after every other character
WELL = SIGNS | AGREEMENT | {PUBLISHED: PUBLISHED_WORDS}


def examine_archives(system: System, home: Home, now: datetime) -> Iterator[Finding]:
    """Findings about every enabled archive of a system whose database and store are known here. Reads only."""
    for name, archive in system.archives.items():
        if not enabled_by(archive.enabled, archive.enabled_env, home.environment):
            continue
        if system.database.url_env in home.environment:
            yield from _told(system, name, signs(system, name, home, now))
        if archive.iceberg is not None:
            yield from _told(system, name, _one(published, system, name, home))
        if system.stores[archive.store].url_env in home.environment:
            yield from _told(system, name, _one(_store, system, name, home))


def _told(system: System, name: str, found: Iterator[Sign]) -> Iterator[Finding]:
    subject = f"archive {name}"
    try:
        for sign in found:
            if sign.well:
                yield Finding(system.name, subject, "ok", WELL[sign.name], "")
            for problem in sign.problems:
                what, _, todo = shown(problem).partition(". ")
                yield Finding(system.name, subject, "fail" if sign.severe else "warn", what.rstrip(".") + ".", todo)
    except MaintenanceError as error:
        what, _, todo = str(error).partition(". ")
        yield Finding(system.name, subject, "fail", what.rstrip(".") + ".", todo)


def _one(look: Callable[[System, str, Home], Sign], system: System, name: str, home: Home) -> Iterator[Sign]:
    yield look(system, name, home)


def _store(system: System, name: str, home: Home) -> Sign:
    """The catalogue beside the store's own list; the bytes themselves are compared at every read and before a drop."""
    archive = system.archives[name]
    began = home.control.now()
    known = home.control.archive.files(system.name, name, states=("stored", "live", "superseded", "expired"))

    def agrees(name: str, below: str | None, files: list[FileRow]) -> Sign:
        store = open_store(name, find_store(system, name), home.value)
        keys = sorted([file.key for file in files] + ([] if below is None else [below]))
        first, last = (keys[0][: keys[0].rfind("/") + 1], keys[-1]) if keys else ("", "")

        def listed() -> Iterator[dict[str, Any]]:
            for batch in store.list(**({"after": first, "until": last + LAST} if first else {})):
                yield from batch.select(["key", "size_bytes"]).to_pylist()

        return store_agrees(files, below, listed(), began)

    return together(agrees(*part) for part in by_store(archive, known))
