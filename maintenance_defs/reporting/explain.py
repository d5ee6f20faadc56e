"""Why an object is an orphan or kept, why a row is broken or whole, and what a declaration means (hazard I10).

Answers come from the files of the last reconciliation, never from a second reading: what is
explained is what was decided. Loose forms are those of `core/near_miss.py`, as in the diff.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import ArtefactError, Refused, UnknownName
from maintenance_defs.core.problems import did_you_mean
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.reconcile.calculator import calculator, literal
from maintenance_defs.reconcile.comparing.inputs import all_sources
from maintenance_defs.reporting import facts as report_facts
from maintenance_defs.reporting.explain_text import key_in_words, row_in_words, system_in_words

NEIGHBOURS = 1000  # references on either side of a key that are measured for likeness
SHOWN = 5  # rows or keys that one line of an answer names

_OBJECT = "key, item, size_bytes, modified_at, etag, scope, reason, near_miss, source, row_id"


@dataclass(frozen=True)
class Explanation:
    """`facts` are plain JSON values; `words` say the same, with a newline at the end."""

    facts: dict[str, Any]
    words: str

    def text(self) -> str:
        return self.words


@dataclass(frozen=True)
class _Evidence:
    """The files of one reconciliation, opened as views of one calculator."""

    con: duckdb.DuckDBPyConnection
    system: System
    diff: Artefact
    references: Artefact
    inventories: dict[str, Artefact]

    def undecided(self, store: str) -> str | None:
        """Why nothing was concluded about a store that references name; None where it was compared."""
        told = self.diff.evidence.get("stores", {}).get(store, {})
        if "counts" in told or store not in self.system.referenced_stores:
            return None
        return str(told.get("message") or "it was not compared.")

    def lists(self, store: str) -> bool:
        """Whether there is a listing: without one, nobody knows what the store holds."""
        inventory = self.inventories.get(store)
        return inventory is not None and inventory.uri is not None

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        table: pa.Table = self.con.sql(sql, params=values).to_arrow_table()
        found: list[dict[str, Any]] = table.to_pylist()
        return [{name: format_instant(v) if hasattr(v, "tzinfo") else v for name, v in row.items()} for row in found]


@contextmanager
def _evidence(system: System, home: Home) -> Iterator[_Evidence]:
    diff = home.control.latest(system.name, "orphan_diff")
    if diff is None:
        raise ArtefactError(
            f"{system.name} has not been reconciled yet, so there is nothing to explain. "
            f"Run `maintain report {system.name}` first."
        )
    references, inventories = report_facts.inputs(system, home, diff)
    if references is None or references.uri is None or diff.uri is None:
        raise Refused(
            diff.reason or "incomplete",
            f"the last reconciliation of {system.name} is {diff.verdict} ({diff.reason}): nothing was decided, so "
            f"there is nothing to explain. Run `maintain report {system.name}` to see why.",
        )
    with tempfile.TemporaryDirectory(prefix="maintain-") as spill, calculator(Path(spill)) as con:
        _open_views(con, system, home, diff, references, inventories)
        yield _Evidence(con, system, diff, references, inventories)


def _open_views(
    con: duckdb.DuckDBPyConnection, system: System, home: Home, diff: Artefact, references: Artefact,
    inventories: dict[str, Artefact],
) -> None:  # fmt: skip
    """inventory(store, key, …), named(store, number, key, row_id), loose(number, kind, …), decided(ORPHAN_DIFF)."""
    folder = home.artefacts.local(references.uri or "", references.digest)
    results = home.artefacts.local(diff.uri or "", diff.digest)
    named = [
        f"SELECT {literal(file.parent.name)} AS store, {int(file.stem)} AS number, key, row_id "
        f"FROM read_parquet({literal(file)})"
        for file in sorted((folder / "references").glob("*/*.parquet"))
    ]
    loose = [
        f"SELECT {int(file.stem) if file.stem.isdigit() else 'NULL'}::INTEGER AS number, * "
        f"FROM read_parquet({literal(file)})"
        for file in sorted((folder / "loose").glob("*.parquet"))
    ]
    listed = [
        f"SELECT {literal(name)} AS store, * "
        f"FROM read_parquet({literal(home.artefacts.local(inventory.uri, inventory.digest) / 'inventory.parquet')})"
        for name, inventory in inventories.items()
        if inventory.uri is not None
    ]
    decided = [
        f"SELECT * FROM read_parquet({literal(file)})"
        for file in [*sorted((results / "objects").glob("*.parquet")), results / "rows.parquet"]
        if file.exists()
    ]
    for name, selects, nothing in (
        ("named", named, "''::VARCHAR AS store, 0 AS number, ''::VARCHAR AS key, ''::VARCHAR AS row_id"),
        ("loose", loose, "0 AS number, '' AS kind, '' AS store, '' AS value, '' AS row_id, '' AS reason"),
        ("inventory", listed, "'' AS store, '' AS key, 0 AS size_bytes, NULL::TIMESTAMPTZ AS modified_at"),
        ("decided", decided, "'' AS key, '' AS store, '' AS item, '' AS row_id, '' AS source"),
    ):
        con.execute(f"CREATE TEMP VIEW {name} AS {' UNION ALL '.join(selects) or f'SELECT {nothing} WHERE false'}")


def explain_system(system: System, home: Home, file: Path) -> Explanation:
    """The declaration in words, and where logs, artefacts and our own state are (S1-56, S3-47)."""
    facts = {
        "system": system.name,
        "file": str(file),
        "declaration": system.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "home": str(home.path),
        "set": {
            name: name in home.environment
            for name in [system.database.url_env, *(store.url_env for store in system.stores.values())]
        },
    }
    return Explanation(facts, system_in_words(system, facts))


def explain_key(system: System, home: Home, key: str, *, store: str | None = None) -> Explanation:
    """Why the object `key` is judged as it is.

    store: which one, where several may hold the key; by default the one that lists it.
    Raises UnknownName for a store that is not declared, ArtefactError or Refused when there is no decision to explain.
    """
    if store is not None and store not in system.stores:
        raise UnknownName(
            "unknown_store",
            f"{system.name} declares no store {store!r}.{did_you_mean(store, system.stores)} "
            f"Known: {', '.join(system.stores)}.",
        )
    with _evidence(system, home) as given:
        listed = given.rows(
            "SELECT * FROM inventory WHERE key = $key AND ($store IS NULL OR store = $store)", key=key, store=store
        )
        store = store or (listed[0]["store"] if listed else (*system.referenced_stores, *system.stores)[0])
        listed = [row for row in listed if row["store"] == store]
        decided = given.rows(
            f"SELECT {_OBJECT} FROM decided WHERE key = $key AND store = $store AND row_id IS NULL",
            key=key,
            store=store,
        )
        decided += given.rows(
            f"SELECT {_OBJECT} FROM decided WHERE key = $key AND store = $store AND row_id IS NOT NULL LIMIT {SHOWN}",
            key=key,
            store=store,
        )
        facts = {
            "system": system.name,
            "store": store,
            "key": key,
            "item": _item(given, store, key, listed, decided),
            "reason": decided[0]["reason"] if decided else given.undecided(store),
            "near_miss": decided[0]["near_miss"] if decided else None,
            "store_listed": given.lists(store),
            "object": {name: listed[0][name] for name in ("size_bytes", "modified_at", "etag")} if listed else None,
            "searched": _searched(given, store, key),
            "forms": _forms(given, store, key),
            "nearest": _nearest(given, store, key),
            "seen": _seen(home, system, store, key),
            "evidence": _moments(given, store),
        }
    return Explanation(facts, key_in_words(facts))


def _item(given: _Evidence, store: str, key: str, listed: list[dict[str, Any]], decided: list[dict[str, Any]]) -> str:
    """The class; objects that are matched or out of scope stand in no file."""
    if decided:
        return str(decided[0]["item"])
    if given.undecided(store) is not None or not given.lists(store):
        return "undecided"
    if not listed:
        return "not_listed"
    if store not in given.system.referenced_stores:
        return "not_compared"
    scopes = given.system.stores[store].scopes
    return "matched" if any(key.startswith(scope.prefix) for scope in scopes) else "out_of_scope"


def _searched(given: _Evidence, store: str, key: str) -> list[dict[str, Any]]:
    """Every declared reference to the store: how many keys it gave, and the rows that name this key exactly."""
    counts = {row["number"]: row["keys"] for row in given.rows(
        "SELECT number, count(*) AS keys FROM named WHERE store = $store GROUP BY number", store=store)}  # fmt: skip
    exact = given.rows(
        f"SELECT number, count(*) AS hits, (list(row_id))[:{SHOWN}] AS row_ids FROM named "
        "WHERE store = $store AND key = $key GROUP BY number",
        store=store, key=key,
    )  # fmt: skip
    hits = {row["number"]: row for row in exact}
    sources = all_sources(given.system)
    declared = [sources[number] for number, _ in given.system.references_to(store)]
    own = [source for source in sources[len(given.system.references) :] if source.number in counts]
    return [
        {
            "reference": source.name,
            "protects_only": not source.claims,
            "keys": counts.get(source.number, 0),
            "rows": hits[source.number]["hits"] if source.number in hits else 0,
            "row_ids": hits[source.number]["row_ids"] if source.number in hits else [],
        }
        for source in (*declared, *own)
    ]


_FORMS = {
    "case, Unicode form, percent-encoding, slashes, padding": """
        SELECT key AS value, number, row_id, near_miss_form($key, key) AS how FROM named
        WHERE store = $store AND key <> $key AND loose_key(key) = loose_key($key)""",
    "cut off": """
        SELECT key AS value, number, row_id, 'the key begins with it' AS how FROM named
        WHERE store = $store AND key <> '' AND key < $key AND starts_with($key, key)
          AND NOT EXISTS (SELECT 1 FROM inventory i WHERE i.store = $store AND i.key = named.key)""",
    "folders": """
        SELECT value, number, row_id, 'the key lies below it' AS how FROM loose
        WHERE kind = 'prefix' AND store = $store AND value <> '' AND starts_with($key, value)""",
    "tokens": """
        SELECT value, number, row_id, 'the key carries it' AS how FROM loose
        WHERE kind = 'token' AND store = $store AND list_contains(key_tokens($key), value)""",
    "undeclared columns": """
        SELECT value, number, row_id, reason AS how FROM loose
        WHERE kind = 'undeclared' AND store = $store AND loose_key(value) = loose_key($key)""",
    "URLs on hosts nobody declared": """
        SELECT value, number, row_id, reason AS how FROM loose
        WHERE kind IN ('external', 'unresolvable') AND value IS NOT NULL
          AND list_contains(path_suffixes(loose_key(value)), loose_key($key))""",
}


def _forms(given: _Evidence, store: str, key: str) -> list[dict[str, Any]]:
    """What else than the exact key was tried, and what it found: any of it protects."""
    return [
        {"form": form, "found": given.rows(f"{sql} LIMIT {SHOWN}", **_used(sql, store=store, key=key))}
        for form, sql in _FORMS.items()
    ]


def _used(sql: str, **values: str) -> dict[str, str]:
    """DuckDB refuses values that a statement does not name."""
    return {name: value for name, value in values.items() if f"${name}" in sql}


_NEAREST = f"""
SELECT key, min(number) AS number, min(row_id) AS row_id, round(jaro_winkler_similarity(key, $key), 3) AS likeness
FROM (
    (SELECT * FROM named WHERE store = $store AND key < $key ORDER BY key DESC LIMIT {NEIGHBOURS})
    UNION ALL (SELECT * FROM named WHERE store = $store AND key > $key ORDER BY key LIMIT {NEIGHBOURS})
    UNION ALL (SELECT * FROM named WHERE store = $store AND key <> $key
               AND ends_with(key, '/' || $name) LIMIT {NEIGHBOURS})
) GROUP BY key ORDER BY likeness DESC, key LIMIT {SHOWN}
"""


def _nearest(given: _Evidence, store: str, key: str) -> list[dict[str, Any]]:
    """References most like the key, among its neighbours in order and those with the same file name."""
    return given.rows(_NEAREST, store=store, key=key, name=key.rsplit("/", 1)[-1])


def _seen(home: Home, system: System, store: str, key: str) -> list[dict[str, Any]]:
    """The history of what was claimed about this key."""
    return [
        {
            "item": row["item"],
            "row_id": row["row_id"],
            "first_seen": format_instant(row["first_seen_at"]),
            "last_seen": format_instant(row["last_seen_at"]),
            "resolved": row["resolved_at"] and format_instant(row["resolved_at"]),
            "observations": row["observations"],
        }
        for batch in home.control.findings(system.name, store, key=key, open_only=False)
        for row in batch.to_pylist()
    ]


def _moments(given: _Evidence, store: str) -> dict[str, Any]:
    """The instants that the decision rests on, and the artefacts that hold it."""
    compared = given.diff.evidence.get("stores", {}).get(store, {})
    database = given.references.evidence.get("database", {})
    inventory = given.inventories.get(store)
    return {
        "as_of": format_instant(given.diff.as_of),
        "listing_started_at": inventory and format_instant(inventory.started_at),
        "listing_ended_at": inventory and format_instant(inventory.ended_at),
        "snapshot_taken_at": database.get("taken_at"),
        "oldest_transaction_at": database.get("oldest_transaction_at"),
        "cutoff": compared.get("cutoff"),
        "verdict": given.diff.verdict,
        "reason": given.diff.reason,
        "artefacts": {
            "inventory": inventory and inventory.id,
            "references": given.references.id,
            "orphan_diff": given.diff.id,
        },
    }


# A row, and the values of its lists: 'ID[1]', 'ID[2]', …
_OF_ROW = r"""(row_id = $row_id
    OR starts_with(row_id, $row_id) AND regexp_full_match(substr(row_id, length($row_id) + 1), '\[\d+\]'))"""
_NTH = r"TRY_CAST(regexp_extract(row_id, '\[(\d+)\]$', 1) AS BIGINT) NULLS FIRST"


def explain_row(system: System, home: Home, table: str, row_id: str) -> Explanation:
    """Which objects a row names, which of them exist, and what was concluded.

    table: as declared, or its last part. Raises UnknownName when no reference reads it.
    row_id: of the row, with all values of its lists; or 'ID[3]', one value.
    """
    wanted = {
        number: reference
        for number, reference in enumerate(system.references)
        if table in (reference.table, reference.table.rsplit(".", 1)[-1])
    }
    if not wanted:
        known = list(dict.fromkeys(reference.table for reference in system.references))
        raise UnknownName(
            "unknown_table",
            f"no reference of {system.name} reads a table {table!r}.{did_you_mean(table, known)} "
            f"Known: {', '.join(known)}.",
        )
    numbers = list(wanted)
    with _evidence(system, home) as given:
        keys = given.rows(
            "SELECT n.number, n.store, n.row_id, n.key, i.key IS NOT NULL AS listed, i.size_bytes, i.modified_at "
            "FROM named n LEFT JOIN inventory i ON i.store = n.store AND i.key = n.key "
            f"WHERE {_OF_ROW} AND list_contains($numbers, n.number) ORDER BY n.number, {_NTH}, n.row_id, n.store",
            row_id=row_id, numbers=numbers,
        )  # fmt: skip
        loose = given.rows(
            f"SELECT number, kind, store, row_id, value, reason FROM loose WHERE {_OF_ROW} "
            f"AND list_contains($numbers, number) ORDER BY number, {_NTH}, row_id",
            row_id=row_id, numbers=numbers,
        )  # fmt: skip
        decided = given.rows(
            f"SELECT {_OBJECT}, store FROM decided WHERE {_OF_ROW} AND list_contains($sources, source) "
            f"ORDER BY {_NTH}, row_id",
            row_id=row_id, sources=[source for r in wanted.values() for source in (str(r), r.table)],
        )  # fmt: skip
        for entry in keys:
            entry["listed"] = entry["listed"] if given.lists(entry["store"]) else None
        for entry in [*keys, *loose]:
            entry["reference"] = str(wanted[entry.pop("number")])
        facts = {
            "system": system.name,
            "table": next(iter(wanted.values())).table,
            "row_id": row_id,
            "keys": keys,
            "loose": loose,
            "decided": decided,
            "undecided": {
                s: why for s in sorted({k["store"] for k in keys}) if (why := given.undecided(s)) is not None
            },
            "evidence": _moments(given, keys[0]["store"] if keys else next(iter(wanted.values())).store[0]),
        }
    return Explanation(facts, row_in_words(facts))
