"""The drill of an archive: are its files still what was proven, and do rows come back? (V1, V12; C38, C39, C41, H114)

The files of some months are fetched back whole and read value by value; one month is restored into a table of its
own, compared, and removed again. Nothing that is in use is touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maintenance_defs.archive.declared import find_archive
from maintenance_defs.archive.encryption import decryption_for
from maintenance_defs.archive.objects import archive_stores, fetch
from maintenance_defs.archive.rows.kept import read_groups
from maintenance_defs.archive.units.exporting import Work, spool
from maintenance_defs.archive.units.returning import Restored, drill
from maintenance_defs.control.archive import FileRow, UnitRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError

NEWEST = 3  # months whose files are fetched back, besides the one that is restored


@dataclass
class Drilled:
    """What was looked at. An empty `damaged` and an empty `not_restored` are a pass."""

    files: int = 0
    size_bytes: int = 0
    months: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)  # what is wrong with which file
    restored: Restored | None = None
    restored_month: str | None = None
    not_restored: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def _silent(_: Any) -> None:
    return None


def archive_drill(
    system: System, name: str, home: Home, *, run_id: str, as_of: datetime, log: Callable[[str], None] = _silent
) -> Drilled:
    """Look at the newest months and at one more, which is restored; another one each month (by `as_of`).

    Whatever is found wrong is a result, never an exception. Raises Refused("unknown_archive").
    """
    find_archive(system, name)
    work = Work(system, name, home, f"drill-{run_id}", as_of, run_id, log)
    state = home.control.archive
    held: dict[str, list[FileRow]] = {}
    for file in state.files(system.name, name):
        held.setdefault(file.unit_id, []).append(file)
    units = [unit for unit in state.units(system.name, name) if unit.id in held]
    done = Drilled()
    if not units:
        return done
    chosen = units[(as_of.year * 12 + as_of.month) % len(units)]
    began = time.monotonic()
    for unit in {unit.id: unit for unit in (*units[-NEWEST:], chosen)}.values():
        done.months.append(unit.words())
        _look(work, unit, held[unit.id], done)
    done.seconds["files"] = round(time.monotonic() - began, 3)
    began = time.monotonic()
    _restore(work, chosen, done)
    done.seconds["restore"] = round(time.monotonic() - began, 3)
    return done


def _look(work: Work, unit: UnitRow, files: Sequence[FileRow], done: Drilled) -> None:
    """Every byte by its hash, every value by the digest that was proven when the file was written."""
    state = work.home.control.archive
    stores = archive_stores(work.system, work.home)
    with TemporaryDirectory(prefix="drill-", dir=spool(work.home)) as folder:
        for number, file in enumerate(files):
            back = Path(folder) / f"{number}.parquet"
            try:
                fetch(stores(file.store).reading, file.key, back, file.sha256, size_bytes=file.size_bytes)
                found = read_groups(back, encryption=decryption_for(work.home, work.archive, file))
                known = {group.organisation: (group.rows, group.high, group.low) for group in state.groups([file.id])}
                if {who: (group.rows, group.hi, group.lo) for who, group in found.items()} != known:
                    done.damaged.append(f"{file.key} of {unit.words()} reads otherwise than what was proven.")
            except MaintenanceError as error:
                done.damaged.append(f"{unit.words()}: {error}")
            back.unlink(missing_ok=True)
            done.files += 1
            done.size_bytes += file.size_bytes


def _restore(work: Work, unit: UnitRow, done: Drilled) -> None:
    done.restored_month = unit.words()
    try:
        done.restored = drill(work, unit)
    except MaintenanceError as error:
        done.not_restored.append(f"{unit.words()} could not be restored: {error}")
        return
    if done.restored.same is False:
        done.not_restored.append(f"{unit.words()} came back with other text than it had before it left its table.")
