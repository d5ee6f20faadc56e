"""A SQLite database, a folder and a declaration, for the references step."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.reconcile.references import take_references

ASSETS = "CREATE TABLE assets (id TEXT PRIMARY KEY, path TEXT, size INTEGER, state TEXT, created_at TEXT)"


class World:
    """One SQLite database, two folders as stores, a home."""

    def __init__(self, path: Path, url: str | None = None) -> None:
        self.folder = path
        self.database = path / "app.db"
        self.home = Home(
            path / "home",
            {
                "DB": url or f"sqlite:///{self.database}",
                "FILES": str(path / "files"),
                "OTHER": str(path / "other"),
            },
        )
        for store in ("files", "other"):
            (path / store).mkdir()
        self.references: Artefact | None = None

    def sql(self, *statements: str) -> None:
        with sqlite3.connect(self.database) as connection:
            for statement in statements:
                connection.executescript(statement)
        connection.close()

    def put(self, *keys: str, store: str = "files") -> None:
        for key in keys:
            path = self.folder / store / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")

    def system(self, *references: dict[str, Any], **more: Any) -> System:
        scopes = [{"prefix": ""}]
        return System.model_validate(
            {
                "name": "app",
                "database": {"url_env": "DB"},
                "stores": {
                    "files": {
                        "url_env": "FILES",
                        "scopes": scopes,
                        "bucket": "files",
                        "hosts": "https://cdn.example.org/",
                    },
                    "other": {"url_env": "OTHER", "scopes": scopes, "bucket": "other"},
                },
                "references": [{"id": "id", "store": "files"} | reference for reference in references],
                "drift_scan": False,
            }
            | more
        )

    def list_stores(self, system: System) -> None:
        for store in system.stores:
            assert take_inventory(system, store, self.home, run_id="run").verdict == "complete"

    def take(self, system: System, **more: Any) -> Artefact:
        self.references = take_references(system, self.home, run_id="run", **more)
        return self.references

    def rows(self, file: str) -> list[dict[str, Any]]:
        assert self.references is not None and self.references.uri is not None
        table = pq.read_table(self.home.artefacts.local(self.references.uri, self.references.digest) / file)
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def keys(self, number: int = 0, store: str = "files") -> list[str]:
        return [row["key"] for row in self.rows(f"references/{store}/{number:02d}.parquet")]

    def loose(self, name: str = "00") -> list[tuple[Any, ...]]:
        return sorted(
            (row["kind"], row["store"], row["value"], row["row_id"]) for row in self.rows(f"loose/{name}.parquet")
        )
