"""A shop that goes on working while its retention runs: rows in SQLite, objects in a folder or a bucket.

`App` is the application. It names only objects that are there when it looks, as applications do, and remembers
what it did; what it remembers is what the tests hold the store, the database and the ledger against.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3 import models

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import RetentionState
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.retention import gate
from maintenance_defs.retention.gate import Execution, execute
from maintenance_defs.retention.planning import take_plan
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client, seed

SCHEMA = """
CREATE TABLE renders (id TEXT PRIMARY KEY, key TEXT, status TEXT, created_at TEXT, gone_at TEXT);
CREATE TABLE saved (id TEXT PRIMARY KEY, render_id TEXT, meta TEXT);
CREATE TABLE outbox (id INTEGER PRIMARY KEY);
"""
HOST = "cdn.shop.example"
BASE = "media/base.bin"  # a file and a row that nobody touches: a shop is never empty
POLICIES: dict[str, dict[str, Any]] = {
    "orphans": {
        "describe": "a file that no row names",
        "select": {"orphans": "files", "prefix": "media/"},
        "keep": [{"younger_than": "24 h"}],
        "act": {"objects": "quarantine"},
    },
    "unsaved": {
        "describe": "a finished render that nobody saved",
        "select": {"rows": "renders", "id": "id", "where": "status = 'done'"},
        "keep": [
            {"younger_than": "1 h", "by": "created_at"},
            {"rows": "SELECT render_id FROM saved WHERE render_id IS NOT NULL", "match": "id"},
        ],
        "act": {"objects": "quarantine", "rows": "delete"},
    },
    "expired": {
        "describe": "a render whose time is over; its row stays",
        "select": {"rows": "renders", "id": "id", "where": "status = 'expired' AND gone_at IS NULL"},
        "keep": [
            {"younger_than": "1 h", "by": "created_at"},
            {"rows": "SELECT render_id FROM saved WHERE render_id IS NOT NULL", "match": "id"},
        ],
        "act": {"objects": "quarantine", "set": {"gone_at": "{as_of}"}},
        "overlaps": "unsaved",
    },
    "temporary": {
        "describe": "what a render left behind",
        "select": {"objects": "files", "prefix": "tmp/"},
        "keep": [{"younger_than": "1 h"}],
        "act": {"objects": "delete"},
    },
}


def declaration(policies: dict[str, dict[str, Any]]) -> System:
    """The system `shop`: renders name keys; saved rows name URLs inside JSON."""
    return System.model_validate(
        {
            "name": "shop",
            "database": {"url_env": "SHOP_DB"},
            "stores": {
                "files": {
                    "url_env": "FILES_URL",
                    "hosts": [f"https://{HOST}/"],
                    "credentials": {"access_key_env": "AK", "secret_key_env": "SK"},
                    "scopes": [
                        {"prefix": "media/", "exclusive": True},
                        {"prefix": "tmp/", "exclusive": True, "class": "temporary"},
                    ],
                }
            },
            "references": [
                {
                    "table": "renders", "id": "id", "store": "files", "object": {"column": "key"},
                    "in_progress": "status = 'working'", "releases_reference": "gone_at IS NOT NULL",
                },
                {
                    "table": "saved", "id": "id", "store": "files", "protects_only": True,
                    "object": {"json": "meta", "at": "$.files[*].url", "form": "url"},
                },
            ],
            "retention": policies,
        }
    )  # fmt: skip


class Files:
    """The application's own hands on its objects: a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def put(self, key: str, body: bytes, at: datetime) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{uuid.uuid4().hex}")
        new.write_bytes(body)
        os.utime(new, (at.timestamp(), at.timestamp()))
        new.replace(path)

    def get(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def kept(self, undo: dict[str, Any], key: str) -> bytes | None:
        """What restoring would give back."""
        return self.get(undo["key"])

    def keys(self) -> list[str]:
        found = [p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file()]
        return sorted(key for key in found if not key.startswith(".maintenance/"))


class Bucket:
    """The same on S3."""

    def __init__(self, endpoint: str, versioned: bool, through: str | None = None) -> None:
        self.name = f"shop-{uuid.uuid4().hex[:12]}"
        self.s3 = client(endpoint)
        self.s3.create_bucket(Bucket=self.name)
        if versioned:
            self.s3.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
        self.url = f"s3://{self.name}?endpoint_url={through or endpoint}"

    @property
    def _memory(self) -> Any:
        return models.s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def put(self, key: str, body: bytes, at: datetime) -> None:
        seed(self.name, [key], modified_at=at, body=body)

    def get(self, key: str) -> bytes | None:
        found = self._memory.get_object(self.name, key)
        return bytes(found.value) if found is not None and hasattr(found, "value") else None

    def delete(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.name, Key=key)

    def kept(self, undo: dict[str, Any], key: str) -> bytes | None:
        if undo["kind"] == "copy":
            return self.get(undo["key"])
        versions = self.s3.list_object_versions(Bucket=self.name, Prefix=key)
        marked = [m["VersionId"] for m in versions.get("DeleteMarkers", []) if m["Key"] == key]
        if undo["marker_id"] not in marked:
            return None
        theirs = [v["VersionId"] for v in versions.get("Versions", []) if v["Key"] == key]
        if not theirs:
            return None
        found = self._memory.get_object(self.name, key, version_id=undo.get("version_id", theirs[0]))
        return bytes(found.value) if found is not None and hasattr(found, "value") else None

    def keys(self) -> list[str]:
        found: list[str] = []
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name):
            found += [item["Key"] for item in page.get("Contents", [])]
        return sorted(key for key in found if not key.startswith(".maintenance/"))


@dataclass(frozen=True)
class Render:
    key: str | None
    status: str
    created_at: str
    gone_at: str | None = None


@dataclass(frozen=True)
class Saved:
    render_id: str | None
    keys: tuple[str, ...]


@dataclass
class App:
    """What the application does and remembers. Ids are never used twice; every body has a length of its own."""

    database: Path
    files: Files | Bucket
    clock: Callable[[], datetime]
    objects: dict[str, bytes] = field(default_factory=dict)
    history: dict[str, list[bytes]] = field(default_factory=dict)
    renders: dict[str, Render] = field(default_factory=dict)
    saved: dict[str, Saved] = field(default_factory=dict)
    count: int = 0

    def sql(self, *statements: tuple[str, Sequence[Any]]) -> bool:
        """One transaction; false, and nothing done, where one of them changed no row."""
        with closing(sqlite3.connect(self.database, isolation_level=None, timeout=10)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                if connection.execute(statement, values).rowcount == 0:
                    connection.execute("ROLLBACK")
                    return False
            connection.execute("COMMIT")
            return True

    def rows(self, table: str) -> dict[str, tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database, timeout=10)) as connection:
            return {row[0]: row[1:] for row in connection.execute(f"SELECT * FROM {table}")}

    def next(self) -> int:
        self.count += 1
        return self.count

    def lives(self, key: str | None) -> bool:
        return key is not None and self.files.get(key) is not None

    def live(self) -> list[str]:
        return [key for key in self.objects if key.startswith("media/") and self.lives(key)]

    # -- what it does

    def put(self, key: str, old: bool = True) -> str:
        body = f"{key}#".encode() + b"x" * self.next()
        at = self.clock().replace(microsecond=0) - (timedelta(days=3) if old else timedelta(0))
        self.files.put(key, body, at)
        self.objects[key] = body
        self.history.setdefault(key, []).append(body)
        return key

    def upload(self, old: bool = True, prefix: str = "media/") -> str:
        return self.put(f"{prefix}{self.next():04}.bin", old)

    def render(self, key: str | None, status: str = "done", old: bool = True) -> str | None:
        """A row; of a key that is there."""
        if key is not None and not self.lives(key):
            return None
        at = self.clock() - (timedelta(days=3) if old else timedelta(0))
        made = Render(key, status, f"{at:%Y-%m-%d %H:%M:%S}")
        id = f"r{self.next():04}"
        self.sql(("INSERT INTO renders VALUES (?, ?, ?, ?, ?)", [id, made.key, status, made.created_at, None]))
        self.renders[id] = made
        return id

    def save(self, render_id: str) -> str | None:
        """Someone saves a render, as long as row and file are there."""
        one = self.renders[render_id]
        if not self.lives(one.key) or one.gone_at is not None:
            return None
        return self._save(render_id, (one.key or "",), render_id)

    def share(self, keys: Sequence[str]) -> str | None:
        """Another row names files that are there, by URLs inside JSON."""
        there = tuple(key for key in keys if self.lives(key))
        return self._save(None, there, None) if there else None

    def _save(self, render_id: str | None, keys: tuple[str, ...], needs: str | None) -> str | None:
        urls = ", ".join(f'{{"url": "https://{HOST}/{key}?v=1"}}' for key in keys)
        id = f"s{self.next():04}"
        insert = ("INSERT INTO saved SELECT ?, ?, ?", [id, render_id, f'{{"files": [{urls}]}}'])
        exists = ("UPDATE renders SET status = status WHERE id = ? AND gone_at IS NULL", [needs])
        if not self.sql(*([exists] if needs else []), insert):
            return None
        self.saved[id] = Saved(render_id, keys)
        return id

    def roll_back(self, key: str) -> None:
        """The row of an upload is written and rolled back: its object is left behind."""
        with closing(sqlite3.connect(self.database, isolation_level=None, timeout=10)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO renders VALUES ('rolled', ?, 'done', '2024-01-01 00:00:00', NULL)", [key])
            connection.execute("ROLLBACK")

    def set_status(self, render_id: str, status: str) -> None:
        one = self.renders[render_id]
        if one.key is not None and not self.lives(one.key):
            return
        if self.sql(("UPDATE renders SET status = ? WHERE id = ? AND gone_at IS NULL", [status, render_id])):
            self.renders[render_id] = replace(one, status=status)

    def link(self, render_id: str, key: str) -> None:
        """A row names another file from now on."""
        one = self.renders[render_id]
        if self.lives(key) and self.sql(
            ("UPDATE renders SET key = ? WHERE id = ? AND gone_at IS NULL", [key, render_id])
        ):
            self.renders[render_id] = replace(one, key=key)

    def rename(self, render_id: str) -> None:
        """Copy to a new key, point the row at it, delete the old object where nothing else names it."""
        one = self.renders[render_id]
        if one.key is None or not self.lives(one.key):
            return
        new = self.upload()
        self.link(render_id, new)
        if self.renders[render_id].key == new:
            self.remove(one.key)

    def remove(self, key: str) -> None:
        """Delete an object that no row of ours names."""
        if key not in self.named() and self.lives(key):
            self.files.delete(key)
            self.objects.pop(key, None)

    def delete(self, render_id: str) -> None:
        one = self.renders[render_id]
        if self.sql(("DELETE FROM renders WHERE id = ?", [render_id])):
            del self.renders[render_id]
            if one.key is not None:
                self.remove(one.key)

    def unsave(self, saved_id: str) -> None:
        if self.sql(("DELETE FROM saved WHERE id = ?", [saved_id])):
            del self.saved[saved_id]

    # -- what it needs

    def named(self) -> set[str]:
        return {r.key for r in self.renders.values() if r.key} | {k for s in self.saved.values() for k in s.keys}

    def expendable(self, render_id: str) -> bool:
        """What a policy may take: an old row, done or expired, that nobody saved."""
        one = self.renders[render_id]
        young = datetime.fromisoformat(one.created_at).replace(tzinfo=UTC) > self.clock() - timedelta(hours=1)
        kept = any(s.render_id == render_id for s in self.saved.values())
        return one.status in ("done", "expired") and not young and not kept

    def needed_keys(self) -> set[str]:
        rows = {r.key for id, r in self.renders.items() if r.key and r.gone_at is None and not self.expendable(id)}
        return rows | {key for s in self.saved.values() for key in s.keys}


class Shop:
    """System, home with a clock that can be put forward, application."""

    def __init__(self, folder: Path, files: Files | Bucket, policies: dict[str, dict[str, Any]] | None = None) -> None:
        self.folder = folder
        self.files = files
        self.ahead = timedelta(0)
        self.database = folder / "shop.db"
        with closing(sqlite3.connect(self.database)) as connection:
            connection.executescript(SCHEMA)
            connection.execute("INSERT INTO renders VALUES ('base', ?, 'working', '2024-01-01 00:00:00', NULL)", [BASE])
            connection.commit()
        files.put(BASE, b"always needed", datetime(2024, 1, 1, tzinfo=UTC))
        self.environment = {
            "SHOP_DB": f"sqlite:///{self.database}", "FILES_URL": files.url, "AK": ACCESS_KEY, "SK": SECRET_KEY,
        }  # fmt: skip
        self.system = declaration(policies or POLICIES)
        self.home = self.open_home()
        self.app = App(self.database, files, self.clock)

    def open_home(self) -> Home:
        """As another process opens it."""
        home = Home(self.folder / "home", self.environment)
        home.control.retention = RetentionState(home.control._engine, self.clock)
        return home

    @property
    def state(self) -> RetentionState:
        return self.home.control.retention

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def reconcile(self) -> None:
        diff = reconcile(self.system, self.home, folder=self.folder)
        assert diff.verdict == "complete", diff.evidence["message"]

    def plan(self, policy: str) -> PlanRow:
        return take_plan(self.system, policy, self.home, run_id="planning", clock=self.clock)

    def approve(self, plan: PlanRow, only: list[int] | None = None) -> None:
        self.state.approve(
            plan.id, plan.digest, plan.units if only is None else len(only), "ada", "looked at",
            expires_at=self.clock() + timedelta(days=30), only=only, accept_limits=True,
        )  # fmt: skip

    def planned(self, policy: str) -> PlanRow:
        """Reconciled, planned, approved."""
        self.reconcile()
        plan = self.plan(policy)
        if plan.units:
            self.approve(plan)
        return plan

    def execute(self, plan_id: str, **more: Any) -> Execution:
        return execute(self.system, plan_id, self.home, run_id="run", clock=self.clock, **more)

    def lapse(self) -> None:
        """Whoever held a lease has lost it."""
        self.ahead += timedelta(seconds=gate.LEASE_SECONDS + 1)

    def acts(self, plan_id: str) -> list[dict[str, Any]]:
        return [row for batch in self.state.acts(plan_id) for row in batch.to_pylist()]

    def outcomes(self, plan_id: str) -> dict[str, str]:
        """Key or row -> its last outcome."""
        return {a["key"] or a["row_id"]: a["outcome"] for a in self.acts(plan_id)}


@contextmanager
def made_shop(folder: Path, kind: str, endpoint: str, **more: Any) -> Iterator[Shop]:
    """kind: folder, plain, versioned."""
    if kind == "folder":
        root = folder / "files"
        root.mkdir(parents=True)
        yield Shop(folder, Files(root), **more)
        return
    yield Shop(folder, Bucket(endpoint, kind == "versioned"), **more)


def reopened(folder: Path) -> Shop:
    """The shop of another process: its folders, its home; the application's memory stays over there."""
    shop = Shop.__new__(Shop)
    shop.folder, shop.files, shop.ahead = folder, Files(folder / "files"), timedelta(0)
    shop.database = folder / "shop.db"
    shop.environment = {
        "SHOP_DB": f"sqlite:///{shop.database}",
        "FILES_URL": str(folder / "files"),
        "AK": "a",
        "SK": "s",
    }
    shop.system = declaration(POLICIES)
    shop.home = shop.open_home()
    return shop
