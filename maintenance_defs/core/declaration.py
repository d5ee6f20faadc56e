"""What YAML may say about a system. Unknown fields and out-of-range values are errors at load (I15).

The engine works on these objects as they are; `declarations.py` reads them from the folders and
adds file and line to what goes wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from maintenance_defs.core.alert_above import AlertAbove
from maintenance_defs.core.archive import Archive, ColumnArchive, check_archives
from maintenance_defs.core.growth import Growth, check_growth
from maintenance_defs.core.parameters import named_timings
from maintenance_defs.core.policy import Policy
from maintenance_defs.core.problems import Several, known_names
from maintenance_defs.core.quantities import Duration, SizeBytes
from maintenance_defs.core.retention_rules import check_retention
from maintenance_defs.core.trails import Trail, check_trails
from maintenance_defs.core.vocabulary import (
    PLACEHOLDER,
    Declared,
    EnvName,
    Name,
    OneOrMore,
    Sql,
    Strings,
    Word,
    Words,
    template_columns,
)

__all__ = ["Declared", "EnvName", "Name", "OneOrMore", "Sql", "Strings", "Word", "Words", "template_columns"]

# Jobs that systems have; a policy's job is called like the policy.
OWN_JOBS = (
    "reconciliation", "growth", "daily_report", "weekly_report", "monthly_report", "restore_drill", "archive",
    "archive_ahead", "archive_drill",
)  # fmt: skip
OWN_PREFIX = ".maintenance/"  # quarantine, probes and archives of ours; in no scope, ever (E07)


class Database(Declared):
    """Where the rows are. The URL stands in an environment variable, never in YAML."""

    url_env: EnvName
    write_url_env: EnvName | None = None  # a role that may change rows; reports never see it. `url_env` where absent
    token_env: EnvName | None = None  # d1:// only: a token with the right to read
    write_token_env: EnvName | None = None  # one with the right to edit; `token_env` where absent


class Scope(Declared):
    """The keys under one prefix that this system owns."""

    prefix: str
    class_: Literal["product", "temporary", "library", "cache", "archive"] = Field(alias="class", default="product")
    patterns: Strings = ()  # 'raw/{timestamp}-{random}.wav'; a key that matches none is protected
    exclusive: bool = False  # only then can an unreferenced object be an orphan (E05)

    @model_validator(mode="after")
    def _segment_bounded(self) -> Self:
        if self.prefix and not self.prefix.endswith("/"):
            raise ValueError(f"prefix {self.prefix!r} must end in '/', or it would also own {self.prefix}2/…")
        if self.prefix.startswith("/"):
            raise ValueError(f"prefix {self.prefix!r} must not start with '/': keys do not")
        if OWN_PREFIX.startswith(self.prefix or "\0") or self.prefix.startswith(OWN_PREFIX):
            raise ValueError(f"prefix {self.prefix!r} holds the platform's own objects")
        for pattern in self.patterns:
            if not pattern.startswith(self.prefix):
                raise ValueError(f"pattern {pattern!r} must start with its scope's prefix {self.prefix!r}")
            key_pattern_regex(pattern)
        return self


class Credentials(Declared):
    """Which variables hold the credentials of a store; the provider's usual ones where absent."""

    access_key_env: EnvName
    secret_key_env: EnvName
    session_token_env: EnvName | None = None


class Store(Declared):
    """Where the objects are: s3://bucket[/prefix/]?endpoint_url=…, az://account/container, gs://bucket, a folder."""

    url_env: EnvName
    scopes: tuple[Scope, ...] = Field(min_length=1)
    credentials: Credentials | None = None
    write_credentials: Credentials | None = None  # may delete and copy; reports never see them. `credentials` if absent
    bucket: Word | None = None  # the name that URLs in the database use, where it differs from the URL's
    bucket_env: EnvName | None = None
    hosts: Strings = ()  # 'https://cdn.example.com/' or 'https://x.example/base/': stands for this store's root
    limit: SizeBytes | None = None
    price_per_gb_month: float | None = Field(default=None, ge=0, strict=True, allow_inf_nan=False)  # 10^9 bytes
    in_flight: Duration = timedelta(minutes=60)  # an upload may precede its row by so much
    age_by: Literal["modified", "first_seen"] = "modified"
    may_be_absent: bool = False  # a local cache that need not exist yet

    @model_validator(mode="after")
    def _scopes_do_not_overlap(self) -> Self:
        prefixes = sorted(scope.prefix for scope in self.scopes)
        for outer, inner in pairwise(prefixes):
            if inner.startswith(outer):
                raise ValueError(f"scopes {outer!r} and {inner!r} overlap; an object belongs to one scope")
        return self


Form = Literal["column", "template", "url", "path", "prefix", "token", "text"]
FORMS: tuple[Form, ...] = get_args(Form)


class ObjectForm(Declared):
    """How a row names objects: exactly one form, over a column, a JSON path or an array.

    column    the value is the key, byte for byte
    template  'reports/{delivery_id}/{id}.{file_type}', filled from columns
    url       a URL of the store in any of its usual spellings, or of a declared host
    path      'key', 'bucket/key' or '/bucket/key' without scheme, or a URL
    prefix    a folder: everything below it is referenced
    token     protects every object whose key has the value as a path segment or file stem
    text      every URL and declared-host link found in running text (HTML, Markdown, JSON)

    json and array say where values stand; `form` how each is read.
    """

    column: Word | None = None
    template: Word | None = None
    url: Word | None = None
    path: Word | None = None
    prefix: Word | None = None
    token: Word | None = None
    text: Word | None = None
    json_: Word | None = Field(alias="json", default=None)  # a column holding JSON …
    at: Word | None = None  # … and the DuckDB JSON path of the values: '$.files[*].key'
    array: Word | None = None  # a text[] column, a JSON array, or a list with `separator`
    separator: str | None = None
    form: Literal["column", "url", "path", "prefix", "token", "text"] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        direct = [f for f in FORMS if getattr(self, f) is not None]
        carriers = [c for c in (self.json_, self.array) if c is not None]
        if len(direct) + len(carriers) != 1:
            raise ValueError("name exactly one of column, template, url, path, prefix, token, text, json, array")
        if (self.json_ is None) != (self.at is None):
            raise ValueError("json and at belong together: {json: metadata, at: '$.files[*].key'}")
        if self.separator is not None and self.array is None:
            raise ValueError("separator belongs to array: {array: keys, separator: ','}")
        if direct and self.form is not None:
            raise ValueError("form belongs to json and array only")
        if self.template is not None and not template_columns(self.template):
            raise ValueError(f"template {self.template!r} names no column; write one in braces: 'final/{{id}}.wav'")
        return self

    @property
    def kind(self) -> Form:
        """How each single value is read."""
        for form in FORMS:
            if getattr(self, form) is not None:
                return form
        return self.form or "column"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns the form needs, in order of appearance."""
        if self.template is not None:
            return template_columns(self.template)
        return tuple(c for c in (self.json_, self.array, getattr(self, self.kind, None)) if c is not None)[:1]

    def __str__(self) -> str:
        if self.json_ is not None:
            return f"{self.json_} {self.at} as {self.kind}"
        if self.array is not None:
            return f"each of {self.array} as {self.kind}"
        return f"{self.kind} {getattr(self, self.kind)}"


class Reference(Declared):
    """One way in which the rows of one table name objects."""

    table: Word
    id: Words
    store: Words  # several where the value itself says which: URLs with a bucket
    object: ObjectForm
    protects_only: bool = False  # protects what it names, but its absence is no finding
    size: Word | None = None  # a column with the object's size in bytes
    dated_by: Word | None = None
    releases_reference: Sql | None = None  # rows for which this holds no longer need their object (A10)
    in_progress: Sql | None = None  # rows whose object may not exist yet
    optional: bool = False  # the table may be absent: noted, not an error

    @model_validator(mode="after")
    def _protecting_forms(self) -> Self:
        if self.object.kind in ("prefix", "token", "text") and not self.protects_only:
            raise ValueError(f"a {self.object.kind} reference names no single object; say protects_only: true")
        if len(self.store) > 1 and self.object.kind not in ("url", "path", "text"):
            raise ValueError(f"a {self.object.kind} reference carries no bucket: name one store")
        return self

    def __str__(self) -> str:
        return f"{self.table}: {self.object}"


class Blocks(Declared):
    """Retention waits while so many rows fail a check: their objects may only look unreferenced (S3-51)."""

    above_percent: float = Field(ge=0, lt=100, allow_inf_nan=False)
    among: Sql | None = None  # a predicate: of which rows the percentage is; may use :as_of. All where absent
    small_population: int = Field(default=50, ge=0)  # below it nothing is blocked: 1 of 9 is no ratio


class RowCheck(Declared):
    """Rows that should not be: counted on the snapshot's own transaction, shown as an asset check."""

    describe: str
    table: Word
    id: Words
    where: Sql | None = None  # plain SQL of the database; may use :as_of, and :timing_<name> of the preset in seconds
    requires: ObjectForm | None = None  # … and whose object (in `store`) is absent
    store: str | None = None
    show: Strings = ()  # further columns of the sample
    severity: Literal["error", "warn"] = "warn"
    optional: bool = False  # the table may be absent
    blocks: Blocks | None = None
    needs: Strings = ()  # columns of the table that a migration adds; without them the check is not asked
    migration: str | None = None  # … and its name
    pauses: bool = False  # rows found switch the system's policies off until a person resumes them (S1-35)
    holds_unreadable: bool = False  # rows whose reference nobody could follow are held: said with why, never an error

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.pauses and self.severity != "error":
            raise ValueError("pauses belongs to a check with severity: error")
        if self.holds_unreadable and self.requires is not None:
            raise ValueError("holds_unreadable needs a check that only has where")
        if self.where is None and self.requires is None:
            raise ValueError("a check needs where, requires, or both; without them every row would fail it")
        if self.blocks is not None and (self.where is None or self.requires is not None):
            raise ValueError("blocks needs a check that only has where")
        if self.blocks is not None and named_timings(f"{self.where} {self.blocks.among or ''}"):
            raise ValueError("blocks takes no timings: what stops retention must not depend on a preset")
        if (self.requires is None) != (self.store is None):
            raise ValueError("requires and store belong together")
        if self.requires is not None and self.requires.kind not in ("column", "template"):
            raise ValueError("requires takes a column or a template")
        return self


class Query(Declared):
    """A table of numbers for the report: one SELECT in a file of the system's folder, run read-only."""

    describe: str
    sql: str  # file name below the system's folder
    needs: dict[str, Strings] = {}  # table -> columns that a migration adds
    migration: str | None = None  # … and its name, said where they are absent

    @model_validator(mode="after")
    def _inside_the_folder(self) -> Self:
        if PurePosixPath(self.sql).is_absolute() or ".." in PurePosixPath(self.sql).parts:
            raise ValueError(f"sql {self.sql!r} must name a file below the system's folder")
        return self


class Publication(Declared):
    """What a reconciliation found of each row, told to the application in a table of ours (S3-37).

    The table has `id`, and checked_at, effective_key, state ('ok', 'broken', 'unknown') and reason.
    """

    describe: str
    table: Word
    id: Name  # its key: the id of the row
    of: Word  # the table whose rows are meant; its references say which objects count, the first that is there first
    migration: str | None = None  # makes the table; without it nothing is written


# YAML reads an instant as one, and quotes should not be needed.
PresetValue = Annotated[str, BeforeValidator(lambda value: value.isoformat() if isinstance(value, date) else value)]


class Guards(Declared):
    """When a reconciliation must not be acted on. Percentages are of the scope's or source's population."""

    max_orphan_percent: float = Field(default=30.0, ge=0, le=100)
    max_missing_percent: float = Field(default=30.0, ge=0, le=100)  # J02: an unmounted volume looks like this
    max_reference_shrink_percent: float = Field(default=50.0, ge=0, le=100)
    max_inventory_shrink_percent: float = Field(default=10.0, ge=0, le=100)
    small_population: int = Field(default=50, ge=0)  # below it only counts matter: 3 of 6 is no ratio
    max_input_age: Duration = timedelta(hours=24)


class System(Declared):
    """One maintained system: its database, its stores, how rows name objects."""

    name: Name
    description: str = ""
    owners: Strings = ()
    database: Database
    stores: dict[Name, Store] = Field(min_length=1)
    references: tuple[Reference, ...] = ()  # none: the system is there for its archives
    checks: dict[Name, RowCheck] = {}
    queries: dict[Name, Query] = {}
    publishes: dict[Name, Publication] = {}
    trails: dict[Name, Trail] = {}  # `maintain validate SYSTEM --segment ID`
    guards: Guards = Guards()
    alert_above: AlertAbove = AlertAbove()
    report: Literal["tables", "storage_maintenance"] = "tables"
    drift_scan: bool = True  # look for keys in columns that nobody declared (D12)
    kinds: Strings = ()
    retention: dict[Name, Policy] = {}
    archives: dict[Name, Archive] = {}
    archived_columns: dict[Name, ColumnArchive] = {}
    growth: Growth = Growth()
    # testing, production -> timing -> '30 d' or a cron expression; and when it expires
    presets: dict[Name, dict[Name, PresetValue]] = {}
    preset: Name | None = None
    preset_env: EnvName | None = None  # a variable that chooses another one

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        # References first: what else is wrong often follows from them.
        found = [*self._names_meet(), *check_retention(self), *check_archives(self), *check_growth(self)]
        if found:
            raise Several(dict.fromkeys(found))
        return self

    def _names_meet(self) -> Iterator[str]:
        if not self.references and not self.archive_stores:
            yield "references: say how rows name objects; only a system with archives may do without"
        for number, reference in enumerate(self.references):
            for store in reference.store:
                if store not in self.stores:
                    hint = known_names(store, self.stores)
                    yield f"references.{number}.store: {store!r} is not declared. {hint}"
        for name, one in self.publishes.items():
            meant = [r for r in self.references if r.table == one.of]
            if not any(not r.protects_only for r in meant):
                yield f"publishes.{name}.of: no reference of {one.of} names an object. Declare one"
            elif len(meant[0].id) != 1:
                yield f"publishes.{name}.of: rows of {one.of} have several id columns; one is needed"
        for name in self.retention:
            if name in OWN_JOBS:
                yield f"retention.{name}: a job of the platform has this name. Choose another"
        for name, check in self.checks.items():
            if check.store is not None and check.store not in self.stores:
                yield f"checks.{name}.store: {check.store!r} is not declared. {known_names(check.store, self.stores)}"
        yield from check_trails(self.trails)
        for owner in self.owners:
            if not re.fullmatch(r"team:[\w.-]+|[^@\s]+@[^@\s]+\.[^@\s]+", owner):
                yield f"owners: {owner!r} is neither 'team:name' nor an e-mail address"

    @property
    def referenced_stores(self) -> tuple[str, ...]:
        """The stores that some reference or archive names, in order of declaration: only those can be diffed."""
        named = {store for reference in self.references for store in reference.store} | self.archive_stores
        return tuple(name for name in self.stores if name in named)

    @property
    def archive_stores(self) -> set[str]:
        """The stores that archives keep their files in."""
        return {archive.store for archive in (*self.archives.values(), *self.archived_columns.values())}

    def references_to(self, store: str) -> Iterator[tuple[int, Reference]]:
        """The references that may name objects of `store`, with their declared position."""
        return ((n, r) for n, r in enumerate(self.references) if store in r.store)


def key_pattern_regex(pattern: str) -> str:
    """`raw/{timestamp}.wav` -> an anchored RE2 expression; a placeholder is one or more characters but '/'."""
    template_columns(pattern)
    parts = PLACEHOLDER.split(pattern)
    return "".join("[^/]+" if n % 2 else re.escape(part) for n, part in enumerate(parts))


def config_digest(system: System) -> str:
    """SHA-256 of everything that a reconciliation depends on: two runs with the same digest asked the same."""
    exclude: dict[str, Any] = {**dict.fromkeys(_RETENTION, True), "stores": _PRICES}
    return hashlib.sha256(system.model_dump_json(exclude=exclude).encode()).hexdigest()


def policy_digest(system: System, policy: str, timings: Mapping[str, str]) -> str:
    """SHA-256 of all that a plan and its approval depend on (I9, H19): the whole declaration and its timings here.

    timings: what presets and variables resolve to in this deployment.
    """
    said = [
        system.model_dump_json(exclude={"stores": _PRICES, "trails": True, "growth": True, "alert_above": True}),
        policy,
        json.dumps(dict(timings), sort_keys=True),
    ]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()


_RETENTION = {
    "retention", "archives", "archived_columns", "growth", "presets", "preset", "preset_env", "trails", "alert_above"
}  # fmt: skip
_PRICES = {
    "__all__": {"price_per_gb_month"}
}  # what storage costs, or when people are told, changes no answer and ends no approval
