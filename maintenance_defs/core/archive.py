"""What YAML may say about archives: which rows cool down, when they leave, how long they stay, in which form.

Retention is the longest of floor and policy; what cannot be understood does not load (V8, I15).
Source: S4-40..S4-55, S4-70, S4-80, S4-82; archive hazards E, G, B34, C49; X-16..X-21.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from maintenance_defs.core.problems import known_names
from maintenance_defs.core.quantities import Duration, format_duration, parse_duration
from maintenance_defs.core.vocabulary import Declared, EnvName, Name, Sql, Strings, Word, Words, template_columns

if TYPE_CHECKING:
    from maintenance_defs.core.declaration import System

UNKNOWN = "__unknown__"  # the organisation of rows whose organisation nobody knows: kept longest (S4-47, V8)
PHI_FLOOR = timedelta(days=2192)  # six years, 45 CFR 164.316(b)(2)(i)
FOREVER = "forever"


def parse_keep(value: Any) -> timedelta | None:
    """`365 d` -> an age; `forever` -> None. Raises ValueError for anything else, 0 and a bare number included."""
    if isinstance(value, str) and value.strip() == FOREVER:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or 'forever'") from None


def parse_undo_window(value: Any) -> timedelta:
    """`7 d` -> an age; also `0 d`: dropped by the next plan. Raises ValueError for a bare number."""
    if isinstance(value, str) and re.fullmatch(r"0 ?(s|min|h|d|w)", value.strip()):
        return timedelta(0)
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or '0 d' for none") from None


def _said(value: Any) -> Any:
    return {who: age for who, age in value.items() if age is not None} if isinstance(value, dict) else value


Keep = Annotated[timedelta | None, BeforeValidator(parse_keep)]


class Organisation(Declared):
    """Whose a row is: a column of its own, or one of the table that it points to."""

    column: Word
    table: Word | None = None  # of the other table …
    by: dict[Word, Word] = {}  # … column of the row -> column of the other table, unique there

    @model_validator(mode="after")
    def _joined(self) -> Self:
        if (self.table is None) != (not self.by):
            raise ValueError("table and by belong together: {table: public.jobs, by: {job_id: id}, column: org_id}")
        return self

    @property
    def words(self) -> str:
        """`org`; `public.jobs.org_id by job_id = id`."""
        on = ", ".join(f"{ours} = {theirs}" for ours, theirs in self.by.items())
        return f"{self.table}.{self.column} by {on}" if self.table else self.column


class KeepBy(Declared):
    """How long each organisation's rows are kept, said in the database: whole days; NULL inherits."""

    table: Word
    id: Word
    days: Word


CATALOGUE_WORDS = (
    "id", "value", "organisation", "url", "key", "rows", "size_bytes", "first_at", "last_at", "archived_at",
)  # fmt: skip


class Catalogue(Declared):
    """A table of the application that says where archived rows are: one row per value of `lookup` and file."""

    table: Word
    columns: dict[Word, Literal[CATALOGUE_WORDS]]  # type: ignore[valid-type]
    url: Word | None = None  # 'https://account.example/container/{key}', where a column holds the url
    migration: str | None = None  # makes the table; without it nothing is archived

    @model_validator(mode="after")
    def _usable(self) -> Self:
        said = list(self.columns.values())
        if "id" not in said:
            raise ValueError("columns: one must hold the id, by which a row is written once")
        if "url" in said and (self.url is None or "{key}" not in self.url):
            raise ValueError("url: say how it is made: 'https://account.example/container/{key}'")
        return self


class Encryption(Declared):
    """Each file has a key of its own, each organisation one that wraps those, the deployment one above all."""

    key_env: EnvName  # 32 random bytes, base64


class Iceberg(Declared):
    """An Iceberg table of the months that have left their table, made of the very files of the archive."""

    catalog_env: EnvName  # sqlite:///…, postgresql+psycopg2://…, or https://… of a REST catalogue
    table: Annotated[str, StringConstraints(pattern=r"^\w+(\.\w+)+$")]  # 'logs.execution_log'
    path: Word | None = None  # of the table's own metadata, in the archive's store: 'iceberg/logs.execution_log/'

    @model_validator(mode="after")
    def _placed(self) -> Self:
        _safe_path(self.folder, ())
        if not self.folder.endswith("/"):
            raise ValueError(f"path {self.folder!r} must end in '/'; the metadata gets a folder of its own")
        return self

    @property
    def folder(self) -> str:
        return self.path or f"iceberg/{self.table}/"


class _Shared(Declared):
    """What both kinds of archive say."""

    describe: Word
    table: Word
    organisation: Organisation | None = None
    store: Name
    hot: Duration  # whole months leave once they ended so long ago; rows once they are so old
    keep: Keep  # in total, from the row's own time: '365 d' or 'forever'
    keep_from: Literal["written", "archived"] = "written"  # archived: `keep` begins when `hot` ends (S4-80)
    keep_for: Annotated[dict[Word, Keep], BeforeValidator(_said)] = {}  # organisation -> its own; null inherits
    keep_by: KeepBy | None = None
    class_: Literal["standard", "phi"] = Field(alias="class", default="standard")
    encryption: Literal["store"] | Encryption | None = None  # 'store': the store encrypts at rest
    catalogue: Catalogue | None = None
    mode: Literal["manual", "automatic"] = "manual"
    enabled: bool = True
    enabled_env: EnvName | None = None
    second_person: bool = False
    approval_lasts: Duration = timedelta(hours=24)

    @model_validator(mode="after")
    def _kept_long_enough(self) -> Self:
        for where, age in [("keep", self.keep), *((f"keep_for.{who}", age) for who, age in self.keep_for.items())]:
            if age is None:
                continue
            if self.keep_from == "written" and age <= self.hot:
                raise ValueError(
                    f"{where}: {format_duration(age)} is not longer than the hot {format_duration(self.hot)}; rows "
                    f"would expire before they are archived"
                )
            if self.class_ == "phi" and age < PHI_FLOOR:
                raise ValueError(
                    f"{where}: {format_duration(age)} is below the floor of {format_duration(PHI_FLOOR)} for class "
                    f"phi (six years, 45 CFR 164.316(b)(2)(i)). Write so much, more, or forever"
                )
        if self.class_ == "phi" and self.encryption is None:
            raise ValueError("encryption: class phi needs encryption: {key_env: …}, or encryption: store where it does")
        if (self.keep_by or self.keep_for) and self.organisation is None:
            raise ValueError("keep_for and keep_by need organisation: whose rows are whose")
        if self.mode == "automatic" and self.second_person:
            raise ValueError("second_person: it needs people; an automatic archive has a standing approval")
        return self


def _safe_path(path: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError for a path that is not one below the store's root (C49)."""
    parts = path.split("/")
    if path.startswith("/") or "//" in path or any(part in (".", "..") or part != part.strip() for part in parts):
        raise ValueError(f"path: {path!r} must be a plain path below the store's root, without '..' and blanks")
    if PurePosixPath(path).parts[:1] == (".maintenance",):
        raise ValueError(f"path: {path!r} lies below the platform's own prefix")
    try:
        named = template_columns(path)
    except ValueError as error:
        raise ValueError(f"path: {error}") from None
    for name in named:
        if name not in allowed:
            raise ValueError(f"path: {{{name}}} is not known. {known_names(name, allowed)}")


class Archive(_Shared):
    """A table that only grows, cut by month into Parquet."""

    time: Word
    id: Words | None = None  # where the table has no primary key: columns that are unique and NOT NULL
    lookup: Word | None = None  # one value's rows are found by it: job_id
    path: Word  # 'execution_log/org={org}/month={month}/': {org} with layout per_org, {class} with by_class
    layout: Literal["per_org", "by_class", "shared"] = "by_class"
    sort: Words | None = None  # within a file; lookup and time where absent
    codec: Literal["zstd", "gzip", "snappy"] = "zstd"
    level: Annotated[int, Field(ge=1, le=19)] | None = None
    row_group_rows: Annotated[int, Field(ge=1000, le=1_000_000)] = 16_384
    remove: Literal["partition", "rows"] | None = None  # how rows leave; partition where there are partitions
    # A detached month can be put back so long before it is dropped.
    undo_window: Annotated[timedelta, BeforeValidator(parse_undo_window)] = timedelta(days=7)
    months_ahead: Annotated[int, Field(ge=0, le=36)] = 3
    partition_name: Word | None = None  # of months made ahead: '{table}_p{year}_{month}'
    iceberg: Iceberg | None = None

    @model_validator(mode="after")
    def _laid_out(self) -> Self:
        wanted = {"per_org": ("org", "month"), "by_class": ("class", "month"), "shared": ("month",)}[self.layout]
        _safe_path(self.path, wanted)
        for name in wanted:
            if name not in template_columns(self.path):
                raise ValueError(f"path: layout {self.layout} needs {{{name}}} in it")
        if not self.path.endswith("/"):
            raise ValueError(f"path: {self.path!r} must end in '/'; files are named by their content")
        if self.layout == "per_org" and self.organisation is None:
            raise ValueError("layout: per_org needs organisation: whose a row is")
        if isinstance(self.encryption, Encryption) and self.layout != "per_org":
            raise ValueError("encryption: keys are the organisations'; it needs layout: per_org")
        if self.catalogue is not None and self.lookup is None and "value" in self.catalogue.columns.values():
            raise ValueError("catalogue: value is the one of lookup; declare lookup")
        if self.iceberg is not None and self.class_ == "phi":
            raise ValueError("iceberg: who reads class phi is put on record, and readers of an Iceberg table are not")
        if self.iceberg is not None and isinstance(self.encryption, Encryption):
            raise ValueError("iceberg: its readers have no keys of encrypted files; encryption: store does not hinder")
        if self.iceberg is not None and re.search(r"[?#]", self.path + self.iceberg.folder):
            raise ValueError("iceberg: its readers take '?' and '#' in a path for something else")
        named = self.partition_name
        if named is not None and not re.fullmatch(r"\{table\}[^{}]*\{year\}[^{}]*\{month\}[^{}]*", named):
            raise ValueError(
                f"partition_name {named!r} must be like '{{table}}_p{{year}}_{{month}}': the table first, then year "
                f"and month"
            )
        return self

    @property
    def sorted_by(self) -> tuple[str, ...]:
        return self.sort or ((self.lookup, self.time) if self.lookup else (self.time,))


class Register(Declared):
    """Rows for what the value alone says, written in the transaction that slims it; a restore removes them (S4-51)."""

    answers: Word  # the check of `holds` that finds rows without them; it must find none afterwards
    table: Word
    id: Word
    rows: Sql  # SELECT: for_id, the archived row's id, and the new row's columns by their names
    record: Word  # remembers what was written: table_name, row_id, for_id, row_hash
    migration: str | None = None  # makes it


class ColumnArchive(_Shared):
    """A large JSON column: the whole value goes to a file, a slim one stays in the row (S4-50..S4-55)."""

    column: Word
    id: Word
    where: Sql  # rows that are finished: "status IN ('COMPLETED', 'FAILED')"
    time: Word  # when they were
    path: Word  # 'job-results/{org}/{id}.json.gz'
    slim: Sql  # SQL of the value that stays; an error or NULL of it leaves the row as it is
    holds: Strings = ()  # checks of the system: rows they find stay as they are
    register_: Register | None = Field(default=None, alias="register")  # … but those of one, for which it writes rows

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.register_ is not None and self.register_.answers not in self.holds:
            raise ValueError(f"register.answers: {self.register_.answers!r} must be one of holds")
        _safe_path(self.path, ("org", "id"))
        if "id" not in template_columns(self.path):
            raise ValueError("path: needs {id}: one file a row")
        if "org" in template_columns(self.path) and self.organisation is None:
            raise ValueError("path: {org} needs organisation")
        if not self.path.endswith(".json.gz"):
            raise ValueError(f"path: {self.path!r} must end in '.json.gz', which is what the files are")
        if isinstance(self.encryption, Encryption):
            raise ValueError("encryption: of single values only by the store: encryption: store")  # noqa: TRY004
        return self


def check_archives(system: System) -> Iterator[str]:
    """What does not hold between archives and the rest of a declaration: 'archives.<name>…: what'."""
    groups: tuple[tuple[str, Mapping[str, Archive | ColumnArchive]], ...] = (
        ("archives", system.archives), ("archived_columns", system.archived_columns),
    )  # fmt: skip
    taken: set[str] = {f"retention.{name}" for name in system.retention}
    paths: list[tuple[str, str, str]] = []
    for group, archives in groups:
        for name, archive in archives.items():
            at = f"{group}.{name}"
            for other in ("retention", "archives"):
                if other != group and f"{other}.{name}" in taken:
                    yield f"{at}: {other}.{name} has the same name; plans are told apart by it"
            taken.add(at)
            yield from _misplaced(system, archive, at, paths)
            paths.append((archive.store, archive.path.split("{")[0], at))
            if isinstance(archive, ColumnArchive):
                yield from _unheld(system, archive, at)
                continue
            yield from _iceberg_misplaced(system, at, archive)
            if any(p.select.rows == archive.table and p.act.rows for p in system.retention.values()):
                yield f"{at}.table: a retention policy deletes rows of {archive.table} too; one may, not both"


def _misplaced(
    system: System, archive: Archive | ColumnArchive, at: str, paths: Iterable[tuple[str, str, str]]
) -> Iterator[str]:
    """Why its files cannot lie where it says. paths: store, fixed part and owner of those before it."""
    if archive.store not in system.stores:
        yield f"{at}.store: {archive.store!r} is not declared. {known_names(archive.store, system.stores)}"
        return
    fixed = archive.path.split("{")[0]
    scopes = [s.prefix for s in system.stores[archive.store].scopes if s.class_ == "archive"]
    if not any(fixed.startswith(prefix) for prefix in scopes):
        yield (
            f"{at}.path: {archive.path!r} lies in no scope of class archive of store {archive.store!r}. Declare one, "
            f"such as {{prefix: {fixed.split('/')[0]}/, class: archive, exclusive: true}}; there are: "
            f"{', '.join(scopes) or 'none'}"
        )
    for store, other_path, who in paths:
        if store == archive.store and (other_path.startswith(fixed) or fixed.startswith(other_path)):
            yield f"{at}.path: {archive.path!r} lies in that of {who}; give each its own folder"


def _unheld(system: System, archive: ColumnArchive, at: str) -> Iterator[str]:
    for check in archive.holds:
        held = system.checks.get(check)
        if held is None:
            yield f"{at}.holds: no check {check!r} is declared. {known_names(check, system.checks)}"
        elif (held.table, held.id) != (archive.table, (archive.id,)) or held.requires is not None:
            yield (f"{at}.holds: check {check!r} must find rows of {archive.table} by {archive.id}, by where alone")


def _iceberg_misplaced(system: System, at: str, archive: Archive) -> Iterator[str]:
    """Its metadata must lie where nothing else is kept: what is no archive could be taken for an orphan."""
    if archive.iceberg is None:
        return
    folder, declared = archive.iceberg.folder, system.stores[archive.store]
    for scope in declared.scopes:
        if scope.class_ != "archive" and (folder.startswith(scope.prefix) or scope.prefix.startswith(folder)):
            yield (
                f"{at}.iceberg.path: {folder!r} lies in the scope {scope.prefix!r} of class {scope.class_}, whose "
                f"objects may be taken for orphans; put it elsewhere"
            )
    others: list[tuple[str, Archive | ColumnArchive]] = [*system.archives.items(), *system.archived_columns.items()]
    for name, other in others:
        fixed = other.path.split("{")[0]
        if other.store == archive.store and (folder.startswith(fixed) or fixed.startswith(folder)):
            yield f"{at}.iceberg.path: {folder!r} and the files of {name} lie in one another"
        theirs = other.iceberg if isinstance(other, Archive) and other is not archive else None
        if theirs is None:
            continue
        if (theirs.catalog_env, theirs.table) == (archive.iceberg.catalog_env, archive.iceberg.table):
            yield f"{at}.iceberg.table: {theirs.table} is the table of {name} already"
        if other.store == archive.store and (folder.startswith(theirs.folder) or theirs.folder.startswith(folder)):
            yield f"{at}.iceberg.path: {folder!r} and that of {name} lie in one another"
