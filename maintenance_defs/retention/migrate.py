"""Migrations of the maintained systems: SQL files in a system's folder, applied once, seen in the catalog.

    assets/<system>/migrations/010_archive_columns.sqlite.sql     <number>_<name>.<sqlite|postgresql>.sql

A file begins with a comment: what it is for, in words, then directives, each of which may go on in lines that
begin with `--   `:

    -- applied when: SELECT …                one true value: everything it makes is there
    -- refuse when: SELECT … -- message      one true value: it must not run; the message says why
    -- preview: SELECT …                     rows to show before it runs

Whether one is applied is asked of the database, never remembered. Each file is one transaction, and counts as
applied only when its own condition then holds. SQLite knows no ADD COLUMN IF NOT EXISTS, so there a statement may
have a comment of its own, `-- skip when: SELECT …`.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import DeclarationError, Refused
from maintenance_defs.databases.acting import ActingDatabase, Script, open_acting_database
from maintenance_defs.databases.urls import reading_url

DIALECTS = ("sqlite", "postgresql")
STATEMENT_SECONDS = 3600.0  # a backfill or an index of a large table
PREVIEW_ROWS = 200

_FILE = re.compile(r"(\d+)_([a-z][a-z0-9_]*)\.(sqlite|postgresql)\.sql")
_DIRECTIVE = re.compile(r"-- (applied when|refuse when|preview|skip when|after):\s*(.*)")
_MORE = re.compile(r"--\s{3,}(.*)")


@dataclass(frozen=True)
class Migration:
    """One file. `sql` is all of it, comments included, to be printed as it is."""

    name: str
    dialect: str
    path: Path
    description: str
    sql: str
    applied_when: str
    refusals: tuple[tuple[str, str], ...] = ()  # (condition, message)
    preview: str | None = None
    after: str | None = None  # the migration that it builds on


@dataclass(frozen=True)
class Applied:
    """Where one migration stands: `applied` (now), `already_applied`, `pending`, or `refused` with why."""

    migration: Migration
    state: str
    detail: str | None = None
    preview: tuple[dict[str, Any], ...] = ()  # while pending: rows as they would become, at most PREVIEW_ROWS

    @property
    def name(self) -> str:
        return self.migration.name


def migrations(folder: Path, dialect: str) -> list[Migration]:
    """The migrations of a system's folder for one dialect, in the order of their numbers; none without a folder.

    Raises DeclarationError for files that are not named or headed like one, or that share a number or name.
    """
    found: list[tuple[int, Migration]] = []
    problems = []
    for path in sorted((folder / "migrations").glob("*.sql")):
        named = _FILE.fullmatch(path.name)
        if named is None:
            problems.append(f"{path}: a migration is named <number>_<name>.<sqlite|postgresql>.sql.")
        elif named[3] == dialect:
            try:
                found.append((int(named[1]), _read(path, named[2], dialect)))
            except ValueError as error:
                problems.append(f"{path}: {error}.")
    said = [str(number) for number, _ in found] + [migration.name for _, migration in found]
    twice = sorted({word for word in said if said.count(word) > 1})
    problems += [f"{folder / 'migrations'}: {word!r} is used twice for {dialect}." for word in twice]
    problems += [
        f"{migration.path}: it builds on {migration.after!r}, and there is no such migration before it for {dialect}."
        for number, migration in found
        if migration.after is not None and migration.after not in {m.name for n, m in found if n < number}
    ]
    if problems:
        raise DeclarationError(problems)
    return [migration for _, migration in sorted(found, key=lambda pair: pair[0])]


def status(system: System, home: Home, folder: Path) -> list[Applied]:
    """Where every migration of the system stands; changes nothing. folder: the system's own.

    Raises DeclarationError, EnvironmentMissing, SourceUnavailable; Refused for a database that cannot be changed.
    """
    database = _database(system, home)
    with database.script(read_only=True) as script:
        return [_standing(script, migration) for migration in migrations(folder, database.dialect)]


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
    system: System, home: Home, folder: Path, names: Sequence[str] | None = None, dry_run: bool = False
) -> list[Applied]:
    """Apply what is not applied yet, all or the named ones, in order; ends with the first that is refused.

    dry_run: says what would be done, and shows each pending migration's preview.
    Raises Refused for an unknown name, and when a file did not make what it says (it is undone); SourceUnavailable
    in the database's words when a statement fails. Files before the failing one stay applied.
    """
    database = _database(system, home)
    known = migrations(folder, database.dialect)
    unknown = [name for name in names or () if name not in {migration.name for migration in known}]
    if unknown:
        raise Refused(
            "unknown_migration",
            f"{system.name} has no migration {', '.join(unknown)} for {database.dialect}. Nothing was changed. "
            f"Known: {', '.join(migration.name for migration in known) or 'none'}.",
        )
    done: list[Applied] = []
    for migration in known:
        if names is not None and migration.name not in names:
            continue
        with database.script(read_only=dry_run) as script:
            standing = _standing(script, migration)
            if standing.state == "pending" and not dry_run:
                _refuse_before(script, migration, known)
                standing = _run(script, migration)
        done.append(standing)
        if standing.state == "refused":
            break
    return done


def _database(system: System, home: Home) -> ActingDatabase:
    return open_acting_database(reading_url(system, home.value), statement_seconds=STATEMENT_SECONDS)


def _standing(script: Script, migration: Migration) -> Applied:
    for condition, message in migration.refusals:
        if _holds(script, condition):
            return Applied(migration, "refused", message)
    if _holds(script, migration.applied_when):
        return Applied(migration, "already_applied")
    preview = script.ask(migration.preview)[:PREVIEW_ROWS] if migration.preview else []
    return Applied(migration, "pending", None, tuple(preview))


def _holds(script: Script, condition: str) -> bool:
    rows = script.ask(condition)
    return len(rows) == 1 and any(rows[0].values())


def _refuse_before(script: Script, migration: Migration, known: Sequence[Migration]) -> None:
    """Raises Refused while what it builds on is not applied."""
    for before in known:
        if before.name == migration.after and not _holds(script, before.applied_when):
            raise Refused(
                "migration_out_of_order",
                f"migration {migration.name} builds on {before.name}, which is not applied. Nothing was changed: "
                f"apply {before.name} first.",
            )


def _run(script: Script, migration: Migration) -> Applied:
    """In the transaction of `script`, which is undone when this raises."""
    for skip_when, statement in _statements(migration):
        if skip_when is None or not _holds(script, skip_when):
            script.run(statement)
    if not _holds(script, migration.applied_when):
        raise Refused(
            "migration_incomplete",
            f"migration {migration.name} ran, but what it says under `applied when` does not hold. It was undone, "
            f"nothing was changed; see {migration.path}.",
        )
    return Applied(migration, "applied")


def _statements(migration: Migration) -> Iterator[tuple[str | None, str]]:
    """(skip when, statement); PostgreSQL takes the file at once."""
    if migration.dialect != "sqlite":
        yield None, migration.sql
        return
    piece = ""
    for part in re.split(r"(?<=;)", migration.sql):
        piece += part
        if sqlite3.complete_statement(piece):
            comment = [line for line in piece.splitlines() if line.startswith("--")]
            yield next((value for name, value in _directives(comment) if name == "skip when"), None), piece
            piece = ""
    if re.sub(r"--.*", "", piece).strip():
        yield None, piece


def _read(path: Path, name: str, dialect: str) -> Migration:
    sql = path.read_text(encoding="utf-8")
    header = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        header.append(line)
    words = [line[2:].strip() for line in header[: next(_first_directive(header), len(header))]]
    directives = _directives(header)
    applied_when = [value for directive, value in directives if directive == "applied when"]
    if not words or len(applied_when) != 1:
        raise ValueError("its comment must say what it is for, and once `-- applied when: SELECT …`")
    refusals = [value.rpartition(" -- ") for directive, value in directives if directive == "refuse when"]
    if not all(condition for condition, _, _ in refusals):
        raise ValueError("a refusal says why: `-- refuse when: SELECT … -- message`")
    one = dict(directives)
    return Migration(
        name, dialect, path, " ".join(words), sql, applied_when[0], tuple((c, m) for c, _, m in refusals),
        one.get("preview"), one.get("after"),
    )  # fmt: skip


def _first_directive(lines: Sequence[str]) -> Iterator[int]:
    return (n for n, line in enumerate(lines) if _DIRECTIVE.match(line))


def _directives(lines: Iterable[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in lines:
        if begins := _DIRECTIVE.match(line):
            found.append((begins[1], begins[2].strip()))
        elif found and (more := _MORE.match(line)):
            found[-1] = (found[-1][0], f"{found[-1][1]} {more[1].strip()}")
    return found
