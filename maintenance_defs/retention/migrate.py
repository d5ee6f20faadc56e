"""Migrations of the maintained systems: SQL files in a system's folder, applied once, seen in the catalog.

Whether one is applied is asked of the database, never remembered. Each file is one transaction, or several where it
says so, and counts as applied only when its own condition then holds. How a file is written: migration_files.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases.acting import ActingDatabase, Script, open_acting_database
from maintenance_defs.databases.urls import reading_url
from maintenance_defs.retention.migration_files import Migration, Refusal, migrations

STATEMENT_SECONDS = 3600.0  # a backfill or an index of a large table
SHOWN_ROWS = 200


@dataclass(frozen=True)
class Applied:
    """Where one migration stands, and rows to show, at most SHOWN_ROWS of a kind.

    state: `applied` (now), `already_applied`, `pending`, `waiting` (for a choice), or `refused`.
    detail: why it is refused, or which choice it waits for.
    rows: while pending or waiting, as they would become, and those that a chosen option acts on; when refused,
        those that are the reason.
    """

    migration: Migration
    state: str
    detail: str | None = None
    rows: tuple[dict[str, Any], ...] = ()

    @property
    def name(self) -> str:
        return self.migration.name


def status(system: System, home: Home, folder: Path) -> list[Applied]:
    """Where every migration of the system stands; changes nothing. folder: the system's own.

    Raises DeclarationError, EnvironmentMissing, SourceUnavailable; Refused for a database that cannot be changed.
    """
    database = _database(system, home)
    with database.script(read_only=True) as script:
        return [_standing(script, migration, ()) for migration in migrations(folder, database.dialect)]


def out_of_order(found: Sequence[Applied]) -> list[str]:
    """What is applied although what it builds on is not, in sentences."""
    by_name = {one.name: one for one in found}
    said = []
    for one in found:
        before = by_name.get(one.migration.after or "")
        if before is not None and one.state == "already_applied" and before.state != "already_applied":
            said.append(
                f"{one.name} is applied, but {before.name}, which it builds on, is not: {before.migration.description}"
            )
    return said


def apply(
    system: System,
    home: Home,
    folder: Path,
    names: Sequence[str] | None = None,
    dry_run: bool = False,
    chosen: Collection[str] = (),
) -> list[Applied]:
    """Apply what is not applied yet, all or the named ones, in order; ends with the first that is refused.

    dry_run: says what would be done, and shows each pending migration's preview.
    chosen: the options that a person agreed to. What waits for another one is left out.
    Raises Refused for an unknown name or option, and when a file did not make what it says (that transaction is
    undone); SourceUnavailable in the database's words when a statement fails. What was committed before stays.
    """
    database = _database(system, home)
    known = migrations(folder, database.dialect)
    _all_known(system, "migration", names or (), [migration.name for migration in known])
    meant = [migration for migration in known if names is None or migration.name in names]
    _all_known(system, "option", chosen, sorted({name for migration in meant for name in migration.options}))
    done: list[Applied] = []
    for migration in meant:
        before = next((one for one in known if one.name == migration.after), None)
        done.append(_bring(database, migration, before, chosen, dry_run))
        if done[-1].state == "refused":
            break
    return done


def _all_known(system: System, what: str, said: Collection[str], known: Sequence[str]) -> None:
    unknown = [name for name in said if name not in known]
    if unknown:
        raise Refused(
            f"unknown_{what}",
            f"{system.name} has no {what} {', '.join(unknown)} here. Nothing was changed. "
            f"Known: {', '.join(known) or 'none'}.",
        )


def _database(system: System, home: Home) -> ActingDatabase:
    return open_acting_database(reading_url(system, home.value), statement_seconds=STATEMENT_SECONDS)


def _standing(script: Script, migration: Migration, chosen: Collection[str]) -> Applied:
    waits_for = migration.waits_for if migration.waits_for not in chosen else None
    rows: list[dict[str, Any]] = []
    if waits_for is None:  # nobody asked for the others, so nothing about them is refused
        for refusal in migration.refusals:
            found = _objects(script, refusal)
            if refusal.unless in chosen:
                rows += found or ()
            elif found is not None:
                return Applied(migration, "refused", refusal.message, tuple(found))
    if _applied(script, migration):
        return Applied(migration, "already_applied")
    if migration.preview:
        rows += _rows(script, migration.preview)
    if waits_for is not None:
        return Applied(migration, "waiting", f"it waits for --with {waits_for}", tuple(rows))
    return Applied(migration, "pending", None, tuple(rows))


def _objects(script: Script, refusal: Refusal) -> list[dict[str, Any]] | None:
    """The rows that are the reason, none for a plain condition; None when it does not hold."""
    if refusal.lists:
        return _rows(script, refusal.sql) or None
    return [] if _holds(script, refusal.sql) else None


def _rows(script: Script, sql: str) -> list[dict[str, Any]]:
    return script.ask(f"SELECT * FROM ({sql}) AS shown LIMIT {SHOWN_ROWS}")


def _holds(script: Script, condition: str) -> bool:
    rows = script.ask(condition)
    return len(rows) == 1 and any(rows[0].values())


def _applied(script: Script, migration: Migration) -> bool:
    return all(_holds(script, condition) for condition in migration.applied_when)


def _refuse_before(script: Script, migration: Migration, before: Migration | None) -> None:
    """Raises Refused while what it builds on is not applied."""
    if before is not None and not _applied(script, before):
        raise Refused(
            "migration_out_of_order",
            f"migration {migration.name} builds on {before.name}, which is not applied. Nothing was changed: "
            f"apply {before.name} first.",
        )


def _bring(
    database: ActingDatabase, migration: Migration, before: Migration | None, chosen: Collection[str], dry_run: bool
) -> Applied:
    """Look, and run what is pending: the first transaction together with the look, then the others.

    before: what it builds on.
    """
    parts = migration.transactions(chosen)
    at = committed = 0
    while at < len(parts):
        try:
            with database.script(read_only=dry_run) as script:
                if not committed:
                    standing = _standing(script, migration, chosen)
                    if dry_run or standing.state != "pending":
                        return standing
                    _refuse_before(script, migration, before)
                again = _run(script, migration, parts[at], last=at == len(parts) - 1)
        except (SourceUnavailable, Refused) as error:
            if not committed:
                raise
            said = (
                f"{migration.name} stopped in step {at + 1} of {len(parts)}; that transaction was undone: {error} "
                f"What was committed before stays, whole; run it again, it goes on from there."
            )
            if isinstance(error, Refused):
                raise Refused(error.reason, said) from None
            raise SourceUnavailable(said, transient=error.transient) from None
        committed += 1
        at += not again
    return Applied(migration, "applied")


def _run(script: Script, migration: Migration, sql: str, *, last: bool) -> bool:
    """In the transaction of `script`, which is undone when this raises. Whether the same is to run again."""
    for skip_when, statement in migration.statements(sql):
        if skip_when is None or not _holds(script, skip_when):
            script.run(statement)
    repeats = migration.repeats(sql)
    if repeats is not None and _holds(script, repeats):
        return True
    if last and not _applied(script, migration):
        raise Refused(
            "migration_incomplete",
            f"migration {migration.name} ran, but what it says under `applied when` does not hold. It was undone, "
            f"nothing was changed; see {migration.path}.",
        )
    return False
