"""The columns of a relation: what each becomes in Parquet, read from the catalog by oid, never from names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, text

from maintenance_defs.archive.rows import forms
from maintenance_defs.archive.rows.forms import Form
from maintenance_defs.core.errors import ArtefactError, Refused, SourceUnavailable
from maintenance_defs.databases.archiving import LoadingSession
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.databases.statements import quote

Source = PostgresSnapshot | LoadingSession | Connection

COMPANION = "__special"  # <column>__special holds what the column's Arrow type cannot
RESERVED = ("p_month", "p_org")  # folders of the archive: a reader would take them for the column (B34)
DESCRIBED = b"maintenance:columns"  # the file's own account of its columns
OLDEST_SERVER = 140_000  # from PostgreSQL 14 on the catalog tells arrays from other types with parts
ENOUGH = 2000  # a table has at most 1600 columns

# Types without an input function that works: what is written cannot be read again.
NO_WAY_BACK = {
    "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "gtsvector",
    "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary",
}  # fmt: skip

COLUMNS = """
WITH RECURSIVE stands_on (attnum, oid, typmod) AS (
    SELECT attnum, atttypid, atttypmod FROM pg_attribute WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT s.attnum, t.typbasetype, t.typtypmod
      FROM stands_on s JOIN pg_type t ON t.oid = s.oid AND t.typtype = 'd'
)
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type_name,
       format_type(s.oid, s.typmod) AS base_type, s.typmod AS typmod,
       CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname ELSE '' END AS builtin,
       t.typoutput::regproc::text AS output,
       CASE WHEN e.typnamespace = 'pg_catalog'::regnamespace AND e.typtype = 'b' THEN e.typname END AS element,
       EXISTS (SELECT FROM pg_cast k WHERE k.castsource = 'text'::regtype AND k.casttarget = s.oid
                  AND k.castmethod = 'f') AS cast_is_special,
       t.typinput::regproc::text AS input, (SELECT pronargs FROM pg_proc p WHERE p.oid = t.typinput) AS input_takes,
       CASE WHEN t.typelem <> 0 THEN t.typelem ELSE t.oid END::int8 AS input_of,
       CASE WHEN a.attcollation NOT IN (0, 100) THEN
            (SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c
               JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) END AS collation,
       a.attnotnull AS not_null, a.attgenerated <> '' AS generated, a.attidentity AS identity
  FROM pg_attribute a
  JOIN stands_on s ON s.attnum = a.attnum
  JOIN pg_type t ON t.oid = s.oid AND t.typtype <> 'd'
  LEFT JOIN pg_type e ON e.typarray = t.oid
 WHERE a.attrelid = :oid
 ORDER BY a.attnum
"""
SERVER = """
SELECT current_setting('server_version_num')::int AS version, getdatabaseencoding() AS encoding,
       (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = :oid) AS relation
"""


@dataclass(frozen=True)
class Column:
    """One column as the catalog describes it; everything else follows from that."""

    name: str
    type_name: str  # with its length or precision; of a domain its name
    base_type: str  # what a domain stands on; else the same
    typmod: int
    builtin: str  # the base type's name where it is PostgreSQL's own, else ''
    output: str  # SQL name of its output function
    element: str | None  # of an array of a type of PostgreSQL's own: that type's name
    cast_is_special: bool  # text is cast to it by a function, not by its input function
    input: str
    input_takes: int
    input_of: int
    collation: str | None  # qualified, where it is not the database's
    not_null: bool
    generated: bool  # kept in the file, computed again when the rows come back
    identity: str  # '', 'a' always, 'd' by default
    always_finite: bool = False  # bounded on both sides: needs no companion

    @cached_property
    def form(self) -> Form:
        element = (self.element, "") if self.element else None
        return forms.of_type(self.builtin, self.typmod, self.output, element)

    @property
    def companion(self) -> str | None:
        """The field that holds, as text, the values the column's own field cannot."""
        return self.name + COMPANION if self._usual else None

    @property
    def _usual(self) -> str | None:
        return None if self.always_finite else self.form.usual

    def fields(self) -> list[pa.Field]:
        """One field, or two with the companion; all may be null."""
        described = {"POSTGRESQL:type": self.type_name}
        found = [pa.field(self.name, self.form.arrow, metadata=described)]
        if self.companion:
            found.append(pa.field(self.companion, pa.string(), metadata={"maintenance:special_of": self.name}))
        return found

    def _base(self, row: str) -> str:
        return f"CAST({row}.{quote(self.name)} AS {self.base_type})"

    def selected(self, row: str) -> list[str]:
        """PostgreSQL: one expression per field, of the row called `row`."""
        form, value = self.form, self._base(row)
        if self._usual is None:
            return [form.kept.replace("{c}", value)]
        usual = self._usual.replace("{c}", value)
        return [
            f"CASE WHEN {usual} THEN {form.kept.replace('{c}', value)} END",
            f"CASE WHEN NOT ({usual}) THEN {self.text(row)} END",
        ]

    def text(self, row: str) -> str:
        """PostgreSQL: the value as its output function writes it."""
        return forms.written(self._base(row), self.output)

    def canonical(self, row: str) -> str:
        """PostgreSQL: the text that the digest is made of; NULL for NULL."""
        form, value = self.form, self._base(row)
        canon = form.canon.replace("{c}", value)
        if self._usual is None:
            return canon
        return f"CASE WHEN {self._usual.replace('{c}', value)} THEN {canon} ELSE '!' || {self.text(row)} END"

    def canonical_kept(self, field: str, companion: str | None) -> str:
        """DuckDB: the same text, of the file's fields (as quoted names)."""
        canon = self.form.canon_duck.replace("{c}", field)
        return canon if companion is None else f"coalesce({canon}, '!' || {companion})"

    def restored(self, field: str, companion: str | None) -> str:
        """PostgreSQL: the value again, of the staged fields (as quoted names)."""
        value = self.form.back.replace("{c}", field).replace("{type}", self.base_type)
        if self.form.staged == "text" and self.cast_is_special:
            value = self._read_text(field)
        if companion is not None:
            value = f"CASE WHEN {companion} IS NULL THEN {value} ELSE {self._read_text(companion)} END"
        return f"CAST({value} AS {self.type_name})"

    def _read_text(self, field: str) -> str:
        """The input function is the exact opposite of the output function; a cast from text may do something else."""
        if not self.cast_is_special:
            return f"CAST({field} AS {self.base_type})"
        further = [str(self.input_of), str(self.typmod)][: self.input_takes - 1]
        return f"{self.input}({', '.join([f'textout({field})', *further])})"


def read_columns(source: Source, oid: int) -> tuple[Column, ...]:
    """The columns of a relation in catalog order, dropped ones left out.

    source: a snapshot, or a connection of ArchiveDatabase.transaction(), whose search_path is pinned.
    Raises Refused where a value could not be kept exactly or a name could not be told from another one,
    SourceUnavailable when there is no such relation.
    """
    server = ask(source, SERVER, {"oid": oid})[0]
    if server["relation"] is None:
        raise SourceUnavailable(f"there is no relation with oid {oid}. Nothing was read.")
    if server["version"] < OLDEST_SERVER:
        raise Refused(
            "server_too_old", "archives are made from PostgreSQL 14 on. Nothing was read; the rows stay where they are."
        )
    if server["encoding"] == "SQL_ASCII":
        raise Refused(
            "no_encoding",
            "the database has the encoding SQL_ASCII: nobody knows which characters its bytes stand for. Nothing was "
            "archived; move it to a database with an encoding first.",
        )
    columns = tuple(Column(**row) for row in ask(source, COLUMNS, {"oid": oid}))
    _refuse(server["relation"], columns)
    return columns


def _refuse(relation: str, columns: Sequence[Column]) -> None:
    names = {column.name for column in columns}
    for column in columns:
        if column.name in RESERVED:
            raise Refused(
                "reserved_column",
                f"{relation} has a column {column.name!r}, which is the name of a folder of the archive: readers would "
                f"take the folder for the column. Nothing was archived; rename the column.",
            )
        if column.companion in names:
            raise Refused(
                "reserved_column",
                f"{relation} has a column {column.companion!r}, which is where the archive keeps the values of "
                f"{column.name!r} that Parquet cannot hold. Nothing was archived; rename the column.",
            )
        for name in (column.builtin, column.element):
            if name in NO_WAY_BACK:
                raise Refused(
                    "unreadable_type",
                    f"column {column.name!r} of {relation} is {column.type_name}, which PostgreSQL writes but does not "
                    f"read. Nothing was archived.",
                )


def ask(source: Source, sql: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """A small answer, of either kind of source."""
    if isinstance(source, Connection):
        return [dict(row) for row in source.execute(text(sql), parameters).mappings()]
    if isinstance(source, PostgresSnapshot):
        return source.small(sql, parameters)
    return source.rows(sql, parameters, limit=ENOUGH)


def ask_all(source: Source, sql: str) -> list[dict[str, Any]]:
    """An answer of numbers, instants and texts that takes work: parallel workers may share it, as for no cursor."""
    if isinstance(source, Connection):
        found = source.exec_driver_sql(sql, execution_options={"no_parameters": True})
        return [dict(row) for row in found.mappings()]
    return list(source.read(sql).read_all().to_pylist())


def fields_of(columns: Sequence[Column]) -> list[pa.Field]:
    return [field for column in columns for field in column.fields()]


def described(columns: Sequence[Column]) -> dict[bytes, bytes]:
    """What a file says about its columns, so that it can be read without the catalogue."""
    return {DESCRIBED: json.dumps([asdict(column) for column in columns], ensure_ascii=False).encode()}


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    """The columns that a file describes. Raises ArtefactError when it is no file of ours."""
    found = (schema.metadata or {}).get(DESCRIBED)
    if found is None:
        raise ArtefactError("the Parquet file does not describe its columns: it was not written by the archive.")
    return tuple(Column(**row) for row in json.loads(found))
