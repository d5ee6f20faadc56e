"""The one resolver: what object a value of the database names.

Every reference form is SQL over Arrow, so that the bulk snapshot, `explain` on one row and the
re-verification before an act ask exactly the same question (H05). The steps are

    rows -> items (single values) -> meanings (exact key, folder, other site, …) -> stores

Where a value can be read in two ways, both readings are given as exact: a row, or a value of its
list, is missing only when none of its keys exists, and an object is an orphan only when none of
them is it. Nothing of a URL's query reaches an output.
Source: S0-9, S1-9, S1-11, S3-48; hazards C01-C07, C12, C19, C21, D01, D02, D04, D06, D11, J05.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa

from maintenance_defs.core.declaration import ObjectForm, Reference
from maintenance_defs.core.errors import DeclarationError
from maintenance_defs.core.schemas import NOT_UTF8, UTC_US

# ASCII only: the driver looks at other text character by character, which takes longer than many an answer.
_SQL = {file.stem: file.read_text("ascii") for file in Path(__file__).with_name("resolve_sql").glob("*.sql")}

# How a link begins in running text; JSON may write '/' as '\/'.
_LINK_BEGINS = r"(?i:(?:https?|s3[an]?|gs|gcs|r2|az|azure|abfss?|wasbs?):(?:\\?/){2})"

# The reason of pieces of a value that could not be read: they only protect objects that exist.
UNREAD = "part of a value that was not read"

ROW_COLUMNS = "row_id, dated_at, size_bytes, in_progress"


@dataclass(frozen=True)
class StoreNames:
    """What URLs call a store.

    buckets: its bucket or container.
    hosts: URLs that stand for the store's root: 'https://cdn.example.com/', 'http://minio:9000/bucket/'.
    """

    store: str
    buckets: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


def rows_schema(reference: Reference) -> pa.Schema:
    """What `resolve` takes: the reference's columns as text in v0, v1, …, in `needed_columns` order."""
    return pa.schema(
        [
            pa.field("row_id", pa.string()),
            *(pa.field(f"v{n}", pa.string()) for n in range(len(needed_columns(reference)))),
            pa.field("dated_at", UTC_US),
            pa.field("size_bytes", pa.int64()),
            pa.field("in_progress", pa.bool_()),
        ]
    )


def needed_columns(reference: Reference) -> tuple[str, ...]:
    """The raw columns to select as text; id, size and dated_by are the caller's."""
    return reference.object.columns


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make a connection ready for `resolve`: the macros, no downloads, no progress bar, UTC."""
    connection.execute(
        "SET autoinstall_known_extensions = false; SET autoload_known_extensions = false;"
        "SET enable_progress_bar = false; SET TimeZone = 'UTC'; SET preserve_insertion_order = true;"
    )
    connection.execute(_SQL["macros"])


def resolve(
    connection: duckdb.DuckDBPyConnection,
    reference: Reference,
    stores: Sequence[StoreNames],
    rows: pa.RecordBatchReader | pa.Table,
) -> duckdb.DuckDBPyRelation:
    """What the rows name, streaming and in their order.

    connection: made ready by `prepare`; holds one resolution at a time.
    stores: all stores of the system. A key of one that the reference does not declare is given as
        'undeclared': it protects, and no row is missing for it.
    rows: columns of `rows_schema`; row_id string, v0… string, dated_at timestamp[us, UTC],
        size_bytes int64, in_progress bool.
    The relation has store, key (of kind exact), kind (exact, prefix, token, undeclared, external,
        unresolvable, no_key), value (folder, token, decoded path; never a query), row_id, dated_at,
        size_bytes, in_progress, dirty, reason. A row may give several lines; none are merged. The
        third value of a list has row_id 'ID[3]': it is an item of its own, not another reading.
    Raises DeclarationError when the form's JSON path is none.
    """
    return connection.sql(resolving(connection, reference, stores, rows))


def resolving(
    connection: duckdb.DuckDBPyConnection,
    reference: Reference,
    stores: Sequence[StoreNames],
    rows: pa.RecordBatchReader | pa.Table,
) -> str:
    """The SELECT of `resolve`, to stand within a longer query, which then is planned once and not three times."""
    _check_json_path(connection, reference.object)
    connection.register("reference_rows", rows)
    return _query(reference, stores)


def _query(reference: Reference, stores: Sequence[StoreNames]) -> str:
    form = reference.object
    items = f"WITH items AS ({_items(form)}),\n"
    if form.kind in ("column", "template", "token"):
        kind = "token" if form.kind == "token" else "exact"
        return items + _sql("literal", kind=_literal(kind), store=_literal(reference.store[0]), unread=_literal(UNREAD))
    takes_paths = form.kind in ("path", "prefix")
    a_scheme = "^[A-Za-z][A-Za-z0-9+.-]*://" if takes_paths else "^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//"
    texts = "texts AS (SELECT *, trimmed(value) AS url, true AS chosen FROM items),\n"
    return (
        items
        + (_sql("text", begin=_LINK_BEGINS) if form.kind == "text" else texts)
        + _sql(
            "url",
            is_url=f"regexp_matches(url, '{a_scheme}') OR starts_with(url, '/storage/v1/')",
            plain=_plain_branch(reference.store, _all_buckets(stores)) if takes_paths else "",
            declared_hosts=_host_branches(stores),
            buckets=_list(_all_buckets(stores)),
            declared=_list(reference.store),
            unread=_literal(UNREAD),
            is_text="true" if form.kind == "text" else "false",
        )
        + _sql(
            "named",
            stores=_store_table(stores),
            declared=_list(reference.store),
            is_prefix="true" if form.kind == "prefix" else "false",
        )
    )


def _items(form: ObjectForm) -> str:
    """Single values of the rows: value, `fault` where the row is broken, `hollow` where only a blank fills it."""
    if form.template is not None:
        return _filled(form.template, form.columns)
    if form.separator is not None:
        parts = (
            f"list_filter(list_transform(string_split(v0, {_literal(form.separator)}), lambda v: trimmed(v)), "
            "lambda v: v <> '')"
        )
        values = (
            f"SELECT {ROW_COLUMNS}, unnest(CASE WHEN len({parts}) > 0 THEN {parts} ELSE [NULL] END) AS value, "
            f"unnest(CASE WHEN len({parts}) > 0 THEN range(1, len({parts}) + 1) ELSE [NULL] END) AS nth, "
            "NULL::VARCHAR AS fault FROM reference_rows"
        )
    elif form.json_ is not None or form.array is not None:
        at = form.at or "$"
        found = f"json_extract(document, {_literal(at)})"
        wild = "*" in at or ".." in at
        values = _sql(
            "json",
            found=found if wild else f"[{found}]",
            wild="true" if wild else "false",
            at=_literal(at),
            unread=_literal(UNREAD),
            broken=_literal("not valid JSON" if form.json_ else "not a list: neither an array nor JSON"),
        )
    else:
        values = f"SELECT {ROW_COLUMNS}, v0 AS value, {_not_utf8('v0')} AS fault FROM reference_rows"
        return f"SELECT *, is_absent(value) AS hollow FROM ({values})"
    return (
        "SELECT * EXCLUDE (nth) REPLACE (row_id || coalesce('[' || nth || ']', '') AS row_id), "
        f"is_absent(value) AS hollow FROM ({values})"
    )


def _filled(template: str, columns: tuple[str, ...]) -> str:
    """The template with its columns as they are and, where that differs, with their padding taken off."""
    parts = [
        (text, f"v{columns.index(text)}" if n % 2 else None)
        for n, text in enumerate(re.split(r"\{(\w+)\}", template))
        if text
    ]
    raw = " || ".join(column or _literal(text) for text, column in parts)
    clean = " || ".join(f"trimmed({column})" if column else _literal(text) for text, column in parts)
    hollow = " OR ".join(f"is_absent(v{n})" for n in range(len(columns)))
    fault = _not_utf8(*(f"v{n}" for n in range(len(columns))))
    return (
        f"SELECT {ROW_COLUMNS}, unnest(CASE WHEN {raw} IS NULL THEN [NULL] ELSE list_distinct([{raw}, {clean}]) END) "
        f"AS value, {fault} AS fault, {hollow} AS hollow FROM reference_rows"
    )


def _not_utf8(*columns: str) -> str:
    """What is wrong with a row whose text the database could only give escaped; null where nothing is."""
    marked = " OR ".join(f"coalesce(starts_with({column}, {_literal(NOT_UTF8)}), false)" for column in columns)
    return f"CASE WHEN {marked} THEN 'not UTF-8 text' END"


def _plain_branch(declared: Sequence[str], buckets: Sequence[str]) -> str:
    """A path without scheme: a key, or 'bucket/key', or either with a '/' before it."""
    in_each_store = ", ".join(
        f"target('exact', {_literal(store)}, NULL, {path}, NULL)"
        for store in declared
        for path in ("p", "ltrim(p, '/')")
    )
    segment = "first_segment(ltrim(p, '/'))"
    return (
        "WHEN NOT is_url THEN list_distinct(flatten(list_transform(plain_readings(value, url), lambda p: list_concat("
        f"[{in_each_store}], CASE WHEN list_contains({_list(buckets)}, {segment}.bucket) "
        f"THEN [target('exact', NULL, {segment}.bucket, {segment}.path, NULL)] ELSE [] END))))"
    )


def _host_branches(stores: Sequence[StoreNames]) -> str:
    """One WHEN per declared host, the longest path first: what stands below it is a key."""
    roots: dict[tuple[str, str], list[str]] = {}
    for name in stores:
        for host in name.hosts:
            url = urlsplit(host if "://" in host else f"https://{host}")
            base = f"{url.path.strip('/')}/" if url.path.strip("/") else ""
            roots.setdefault((re.sub(r":(80|443)$", "", url.netloc.lower()), base), []).append(name.store)
    branches = []
    for (netloc, base), named in sorted(roots.items(), key=lambda root: -len(root[0][1])):
        spelled = "host_port" if ":" in netloc else "host"  # without a port any port will do
        key = f"decoded(substr(path, {len(base) + 1}))"
        targets = ", ".join(f"target('exact', {_literal(store)}, NULL, {key}, NULL)" for store in named)
        branches.append(f"WHEN {spelled} = {_literal(netloc)} AND starts_with(path, {_literal(base)}) THEN [{targets}]")
    return "\n".join(branches)


def _store_table(stores: Sequence[StoreNames]) -> str:
    """Which store a bucket is; a host's name shows it in small letters."""
    lines = {(spelled, name.store) for name in stores for b in name.buckets for spelled in (b, b.lower())}
    values = ", ".join(f"({_literal(bucket)}, {_literal(store)})" for bucket, store in sorted(lines))
    rows = f"VALUES {values}" if values else "SELECT NULL::VARCHAR, NULL::VARCHAR WHERE false"
    return f"SELECT bucket, store FROM ({rows}) AS t(bucket, store)"


def _all_buckets(stores: Sequence[StoreNames]) -> list[str]:
    return [bucket for name in stores for bucket in name.buckets]


def _check_json_path(connection: duckdb.DuckDBPyConnection, form: ObjectForm) -> None:
    if form.at is None:
        return
    try:
        connection.sql(f"SELECT json_extract('{{}}', {_literal(form.at)})").fetchall()
    except duckdb.Error as error:
        raise DeclarationError(
            [f"at: {form.at!r} is no JSON path ({error}); write one such as '$.files[*].key'"]
        ) from None


def _sql(name: str, **parts: str) -> str:
    """One of our SQL files with its $parts filled in; a '$' within its expressions stays."""
    return re.sub(rf"\$({'|'.join(parts)})\b", lambda found: parts[found[1]], _SQL[name])


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(_literal(text) for text in texts)}]::VARCHAR[]"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
