"""One declared system with one store, and ways to fill, list and read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.reconcile.inventory import take_inventory
from tests.support.servers import ACCESS_KEY, SECRET_KEY

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL_SCOPES = [
    {"prefix": "raw/", "class": "temporary", "patterns": ["raw/{stamp}-{random}.wav"]},
    {"prefix": "final/", "class": "product"},
    {"prefix": "empty/"},
]


def a_system(**store: Any) -> System:
    return System.model_validate(
        {
            "name": "studio",
            "database": {"url_env": "STUDIO_DATABASE_URL"},
            "stores": {"audio": {"url_env": "STUDIO_AUDIO_URL", "scopes": ALL_SCOPES} | store},
            "references": [{"table": "public.a", "id": "id", "store": "audio", "object": {"column": "k"}}],
        }
    )


def s3_home(tmp_path: Path, endpoint: str, bucket: str) -> Home:
    return Home(
        tmp_path / "home",
        {"STUDIO_AUDIO_URL": f"s3://{bucket}?endpoint_url={endpoint}", "AK": ACCESS_KEY, "SK": SECRET_KEY},
    )


SIGNED = {"credentials": {"access_key_env": "AK", "secret_key_env": "SK"}}


def put(folder: Path, key: str | bytes, size: int = 1, age: timedelta = timedelta(days=1)) -> None:
    path = folder / os.fsdecode(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    moment = (NOW - age).timestamp()
    os.utime(path, (moment, moment))


def taken(home: Home, system: System | None = None, **more: Any) -> Artefact:
    return take_inventory(system or a_system(), "audio", home, run_id="run", clock=lambda: NOW, **more)


def table(home: Home, artefact: Artefact) -> pa.Table:
    assert artefact.uri is not None
    return pq.read_table(home.artefacts.local(artefact.uri, artefact.digest) / "inventory.parquet")


def keys(home: Home, artefact: Artefact) -> list[str]:
    return [str(key) for key in table(home, artefact)["key"].to_pylist()]


def out_of_order(batches: list[list[tuple[str, int]]]) -> Any:
    def listing(self: Any, *, after: str | None = None, until: str | None = None) -> Iterator[pa.RecordBatch]:
        for rows in batches:
            columns = [
                pa.array([key for key, _ in rows]), pa.array([size for _, size in rows], pa.int64()),
                pa.array([NOW] * len(rows), INVENTORY.field("modified_at").type),
                pa.nulls(len(rows), pa.string()), pa.nulls(len(rows), pa.string()),
            ]  # fmt: skip
            yield pa.RecordBatch.from_arrays(columns, schema=INVENTORY)

    return listing
