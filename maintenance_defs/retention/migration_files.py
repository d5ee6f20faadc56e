"""What stands in a migration's file: words, conditions, choices, and SQL. Nothing here asks a database.

    assets/<system>/migrations/010_archive_columns.sqlite.sql     <number>_<name>.<sqlite|postgresql>.sql

A file begins with a comment: what it is for, in words, then directives, each of which may go on in lines that
begin with `--   `:

    -- applied when: SELECT …                one true value: everything it makes is there; of several, all, in order
    -- refuse when: SELECT … -- message      one true value: it must not run; the message says why
    -- refuse rows: SELECT … -- message      the same for every row it gives, and these rows are shown
    -- after: NAME                           the migration that it builds on
    -- preview: SELECT …                     rows to show before it runs
    -- option NAME: words                    a choice that a person makes with `--with NAME`
    -- refuse … unless NAME: SELECT …        this choice answers it; its rows are shown before it runs
    -- waits for: NAME                       the whole file runs only with this choice

and, among the statements, each a line of its own:

    -- only with: NAME  …  -- end only       left out without this choice
    -- next transaction                      what follows is a transaction of its own
    -- repeat while: SELECT …                it runs again, as a new transaction, while this is one true value

Where a file is several transactions, each must be able to run again. SQLite knows no ADD COLUMN IF NOT EXISTS, so
there a statement may have a comment of its own, `-- skip when: SELECT …`.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maintenance_defs.core.errors import DeclarationError

_FILE = re.compile(r"(\d+)_([a-z][a-z0-9_]*)\.(sqlite|postgresql)\.sql")
_DIRECTIVE = re.compile(
    r"-- (applied when|after|preview|skip when|repeat while|waits for|option \w+|"
    r"refuse (?:when|rows)(?: unless \w+)?):\s*(.*)"
)
_MORE = re.compile(r"--\s{3,}(.*)")
_ONLY = re.compile(r"-- only with: (\w+)\s*")
_END = "-- end only"
_NEXT = "-- next transaction"


@dataclass(frozen=True)
class Refusal:
    """A reason not to run. lists: every row of `sql` is one; else its single value is true."""

    sql: str
    message: str
    lists: bool
    unless: str | None  # the choice that answers it


@dataclass(frozen=True)
class Migration:
    """One file. `sql` is all of it, comments included."""

    name: str
    dialect: str
    path: Path
    description: str
    sql: str
    applied_when: tuple[str, ...]  # asked in order, until one does not hold
    refusals: tuple[Refusal, ...] = ()
    preview: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)  # name: what the choice does, in words
    waits_for: str | None = None  # one of them
    after: str | None = None  # the migration that it builds on

    def sql_with(self, chosen: Collection[str]) -> str:
        """The SQL that runs with these choices, as it is written."""
        lines, only = [], None
        for line in self.sql.splitlines(keepends=True):
            if begins := _ONLY.fullmatch(line.rstrip()):
                only = begins[1]
            elif line.rstrip() == _END:
                only = None
            elif only is None or only in chosen:
                lines.append(line)
        return "".join(lines)

    def transactions(self, chosen: Collection[str]) -> list[str]:
        """The same, a text for each transaction; at least one."""
        parts = re.split(rf"^{_NEXT}\s*$", self.sql_with(chosen), flags=re.MULTILINE)
        return [part for part in parts if re.sub(r"--.*", "", part).strip()] or parts[:1]

    @staticmethod
    def repeats(sql: str) -> str | None:
        """The condition under which one transaction runs again."""
        return next((value for name, value in _directives(sql.splitlines()) if name == "repeat while"), None)

    def statements(self, sql: str) -> Iterator[tuple[str | None, str]]:
        """(skip when, statement) of one transaction; PostgreSQL takes it at once."""
        if self.dialect != "sqlite":
            yield None, sql
            return
        piece = ""
        for part in re.split(r"(?<=;)", sql):
            piece += part
            if sqlite3.complete_statement(piece):
                comment = [line for line in piece.splitlines() if line.startswith("--")]
                yield next((value for name, value in _directives(comment) if name == "skip when"), None), piece
                piece = ""
        if re.sub(r"--.*", "", piece).strip():
            yield None, piece


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


def _read(path: Path, name: str, dialect: str) -> Migration:
    sql = path.read_text(encoding="utf-8")
    header = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        header.append(line)
    words = [line[2:].strip() for line in header[: next(_first_directive(header), len(header))]]
    directives = _directives(header)
    applied_when = tuple(value for directive, value in directives if directive == "applied when")
    if not words or not applied_when:
        raise ValueError("its comment must say what it is for, and `-- applied when: SELECT …`")
    refusals = tuple(_refusal(key, value) for key, value in directives if key.startswith("refuse "))
    options = {key.removeprefix("option "): value for key, value in directives if key.startswith("option ")}
    waits_for = next((value for key, value in directives if key == "waits for"), None)
    used = {refusal.unless for refusal in refusals} | {waits_for, *_conditional(sql)}
    unknown = sorted(used - {None, *options}, key=str)
    if unknown or not all(options.values()):
        raise ValueError(f"a choice is declared, with what it does: `-- option {unknown[0] if unknown else 'NAME'}: …`")
    one = dict(directives)
    return Migration(
        name, dialect, path, " ".join(words), sql, applied_when, refusals, one.get("preview"), options, waits_for,
        one.get("after"),
    )  # fmt: skip


def _refusal(key: str, value: str) -> Refusal:
    sql, _, message = value.rpartition(" -- ")
    if not sql:
        raise ValueError("a refusal says why: `-- refuse when: SELECT … -- message`")
    kind, _, unless = key.partition(" unless ")
    return Refusal(sql, message, kind == "refuse rows", unless or None)


def _conditional(sql: str) -> set[str]:
    """The choices that statements stand under."""
    found: set[str] = set()
    within = False
    for line in (line.rstrip() for line in sql.splitlines()):
        begins = _ONLY.fullmatch(line)
        if (within and (begins or line == _NEXT)) or (line == _END and not within):
            raise ValueError(f"`-- only with: NAME` and `{_END}` stand in pairs, within one transaction")
        if begins:
            found.add(begins[1])
        within = bool(begins) or (within and line != _END)
    if within:
        raise ValueError(f"`-- only with: NAME` ends with `{_END}`")
    return found


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
