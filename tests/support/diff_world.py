"""A small world for the orphan diff: artefacts written by hand, a real folder for HEAD, a real control database."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System, config_digest
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.core.schemas import INVENTORY, LOOSE_REFERENCES, REFERENCES
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff

NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)
OLD = NOW - timedelta(days=30)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Obj:
    size_bytes: int | None = 10
    modified_at: datetime | None = OLD
    mark: str | None = None


@dataclass(frozen=True)
class Ref:
    key: str
    row_id: str = "r"
    size_bytes: int | None = None
    in_progress: bool | None = None
    store: str = "files"


@dataclass(frozen=True)
class Loose:
    number: int | None
    kind: str
    value: str | None = None
    row_id: str = "r"
    store: str | None = "files"
    reason: str | None = None


def column(table: str = "public.assets", **more: Any) -> dict[str, Any]:
    return {"table": table, "id": "id", "store": "files", "object": {"column": "key"}} | more


def by_key(key: str) -> bytes:
    return key.encode()


class World:
    """One system `shop` with store `files` (exclusive scope `a/`) unless told otherwise."""

    def __init__(
        self,
        path: Path,
        *,
        references: Sequence[dict[str, Any]] = (column(),),
        scopes: Sequence[dict[str, Any]] = ({"prefix": "a/", "exclusive": True},),
        stores: Mapping[str, dict[str, Any]] | None = None,
        **more: Any,
    ) -> None:
        declared = stores or {"files": {"scopes": list(scopes)}}
        environ = {}
        self.folders = {}
        for name, store in declared.items():
            store.setdefault("url_env", f"{name.upper()}_URL")
            self.folders[name] = path / "stores" / name
            self.folders[name].mkdir(parents=True)
            environ[store["url_env"]] = str(self.folders[name])
        self.system = System.model_validate(
            {"name": "shop", "database": {"url_env": "SHOP_DB"}, "stores": declared, "references": list(references)}
            | more
        )
        self.home = Home(path / "home", environ)
        self.run = 0

    def inventory(
        self,
        objects: Mapping[str, Obj] | Iterable[str] = (),
        store: str = "files",
        *,
        verdict: str = "complete",
        reason: str | None = None,
        uploads: Sequence[tuple[str, datetime]] = (),
        started_at: datetime = NOW,
        as_of: datetime | None = None,
        identity: str = "here",
    ) -> Artefact:
        given = objects if isinstance(objects, Mapping) else dict.fromkeys(objects, Obj())
        table = pa.table(
            {
                "key": sorted(given, key=by_key),
                "size_bytes": [given[key].size_bytes for key in sorted(given, key=by_key)],
                "modified_at": [given[key].modified_at for key in sorted(given, key=by_key)],
                "etag": ["e"] * len(given),
                "mark": [given[key].mark for key in sorted(given, key=by_key)],
            },
            schema=INVENTORY,
        )
        evidence = {
            "identity": identity,
            "incomplete_uploads": [{"key": key, "started_at": format_instant(at)} for key, at in uploads],
        }
        return self._record(
            "inventory", store, {"inventory.parquet": table}, evidence, verdict, reason, started_at, as_of, ()
        )

    def references(
        self,
        *rows: Iterable[Ref],
        loose: Iterable[Loose] = (),
        checks: Mapping[str, Iterable[Ref]] | None = None,
        verdict: str = "complete",
        reason: str | None = None,
        started_at: datetime = NOW,
        inputs: Sequence[str] | None = None,
        **database: Any,
    ) -> Artefact:
        """rows: one list for each declared reference, in order."""
        files = {}
        for number, declared in enumerate(self.system.references):
            mine = list(rows[number]) if number < len(rows) else []
            for store in declared.store:
                files[f"references/{store}/{number:02d}.parquet"] = _refs(r for r in mine if r.store == store)
        for n in {entry.number for entry in loose}:
            name = "undeclared" if n is None else f"{n:02d}"
            files[f"loose/{name}.parquet"] = _loose(entry for entry in loose if entry.number == n)
        for name, wanted in (checks or {}).items():
            files[f"checks/{name}.parquet"] = _refs(wanted)
        evidence = {
            "sources": [{"table": r.table} for r in self.system.references],
            "database": {
                "identity": "db", "taken_at": format_instant(started_at), "oldest_transaction_at": None,
                "oldest_transaction_known": True, "is_replica": False, "replayed_at": None,
            } | database,
        }  # fmt: skip
        if inputs is None:
            found = [self.home.control.latest("shop", "inventory", store) for store in self.system.stores]
            inputs = [artefact.id for artefact in found if artefact is not None]
        return self._record("references", "", files, evidence, verdict, reason, started_at, None, inputs)

    def _record(
        self, kind: str, name: str, files: Mapping[str, pa.Table], evidence: dict[str, Any], verdict: str,
        reason: str | None, started_at: datetime, as_of: datetime | None, inputs: Sequence[str],
    ) -> Artefact:  # fmt: skip
        id_ = uuid.uuid4().hex
        uri = digest = None
        if verdict == "complete":
            with self.home.artefacts.stage("shop", kind, name, id_, as_of=NOW) as staged:
                for file, table in files.items():
                    (staged.path / file).parent.mkdir(parents=True, exist_ok=True)
                    pq.write_table(table, staged.path / file, row_group_size=3, write_page_index=True)
                uri, digest, _ = staged.commit()
        artefact = Artefact(
            id_, "shop", kind, name, f"run{self.run}", as_of or started_at, started_at, started_at, verdict, reason,
            uri, 0, 0, digest, evidence, config_digest(self.system), tuple(inputs),
        )  # fmt: skip
        self.home.control.record(artefact)
        return artefact

    def exists(self, key: str, store: str = "files") -> None:
        """Put the object where HEAD finds it."""
        path = self.folders[store] / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)

    def diff(self, *, now: datetime = NOW, **more: Any) -> Diff:
        self.run += 1
        artefact = take_orphan_diff(self.system, self.home, run_id=f"run{self.run}", clock=lambda: now, **more)
        return Diff(self.home, artefact)

    def compare(self, objects: Mapping[str, Obj] | Iterable[str], *rows: Iterable[Ref], **more: Any) -> Diff:
        """Inventory of `files`, references, diff."""
        self.inventory(objects)
        self.references(*rows, **more)
        return self.diff()


class Diff:
    """What take_orphan_diff wrote, for assertions."""

    def __init__(self, home: Home, artefact: Artefact) -> None:
        self.artefact = artefact
        self.evidence = artefact.evidence
        self.folder = home.artefacts.local(artefact.uri, artefact.digest) if artefact.uri else None

    def _table(self, file: str) -> list[dict[str, Any]]:
        assert self.folder is not None, self.artefact.reason
        found: list[dict[str, Any]] = pq.read_table(self.folder / file).to_pylist()
        return found

    def compared(self, store: str = "files") -> bool:
        """Whether anything at all was concluded about the store's objects."""
        return self.folder is not None and (self.folder / "objects" / f"{store}.parquet").exists()

    def objects(self, store: str = "files") -> dict[str, str]:
        return {row["key"]: row["item"] for row in self._table(f"objects/{store}.parquet")}

    def object(self, key: str, store: str = "files") -> dict[str, Any]:
        (row,) = [row for row in self._table(f"objects/{store}.parquet") if row["key"] == key]
        return row

    def rows(self) -> dict[str, str]:
        """row_id -> item"""
        written = self._table("rows.parquet")
        found = {row["row_id"]: row["item"] for row in written}
        assert len(found) == len(written), "a row has two verdicts"
        return found

    def row(self, row_id: str) -> dict[str, Any]:
        (row,) = [row for row in self._table("rows.parquet") if row["row_id"] == row_id]
        return row

    def store(self, store: str = "files") -> dict[str, Any]:
        found: dict[str, Any] = self.evidence["stores"][store]
        return found

    def guard(self, name: str, store: str | None = "files") -> dict[str, Any]:
        guard: dict[str, Any]
        (guard,) = [g for g in self.evidence["guards"] if g["name"] == name and g["store"] == store]
        return guard


def _refs(rows: Iterable[Ref]) -> pa.Table:
    listed = sorted(rows, key=lambda r: (by_key(r.key), r.row_id))
    return pa.table(
        {
            "key": [r.key for r in listed],
            "row_id": [r.row_id for r in listed],
            "dated_at": [None for _ in listed],
            "size_bytes": [r.size_bytes for r in listed],
            "in_progress": [r.in_progress for r in listed],
            "dirty": [None for _ in listed],
        },
        schema=REFERENCES,
    )


def _loose(entries: Iterable[Loose]) -> pa.Table:
    listed = list(entries)
    names = ("kind", "store", "value", "row_id", "reason")
    return pa.table({name: [getattr(e, name) for e in listed] for name in names}, schema=LOOSE_REFERENCES)
