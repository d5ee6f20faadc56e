"""An archive reconciled with its store by our own catalogue: no file of it is an orphan, none is missed in silence."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from maintenance_defs.archive.gate import run_archive
from maintenance_defs.archive.units import exporting
from maintenance_defs.archive.units.expiring import sweep
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import Guards, Reference, Store, System
from maintenance_defs.core.errors import Refused
from maintenance_defs.reconcile.run import reconcile
from maintenance_defs.reporting.explain import explain_key
from tests.archive.values_world import World
from tests.archive.world import COLD, FILL, LATER, LogWorld
from tests.support.postgres import execute as run

NOW = timedelta(0)
OLDER = 3 * 3600  # seconds: than whatever counts as being written
LENIENT = Guards(max_orphan_percent=100, max_missing_percent=100, max_inventory_shrink_percent=100)
STRANGER = "logs/month=2024-01/somebody-elses.parquet"


class Killed(BaseException):
    """kill -9: nothing of this attempt runs any more."""


@pytest.fixture
def logs(tmp_path: Path, pg_database: str) -> LogWorld:
    """An archive without a catalogue of the application, in a store that no reference names."""
    made = LogWorld(tmp_path, pg_database)
    (scope,) = made.system.stores["files"].scopes
    files = made.system.stores["files"].model_copy(update={"scopes": (scope.model_copy(update={"exclusive": True}),)})
    pictures = Store.model_validate({"url_env": "FILES", "scopes": [{"prefix": "pictures/"}]})
    reference = Reference.model_validate(
        {"table": "organisations", "id": "id", "store": "pictures", "object": {"column": "id"}, "protects_only": True}
    )
    made.system = made.system.model_copy(
        update={"stores": {"files": files, "pictures": pictures}, "references": (reference,), "guards": LENIENT}
    )
    return made


def found(system: System, home: Home, store: str, folder: Path) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """Reconciled, every object being old: what is not simply matched (key -> item), and rows (key -> item, row)."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - OLDER, time.time() - OLDER))
    diff = reconcile(system, home)
    told = diff.evidence["stores"][store]
    assert "counts" in told, told
    results = home.artefacts.local(diff.uri or "", diff.digest)
    objects: list[dict[str, Any]] = pq.read_table(results / "objects" / f"{store}.parquet").to_pylist()
    rows: list[dict[str, Any]] = pq.read_table(results / "rows.parquet").to_pylist()
    return (
        {one["key"]: one["item"] for one in objects},
        {one["key"]: (one["item"], one["row_id"]) for one in rows if one["store"] == store},
    )


def of_logs(made: LogWorld) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    return found(made.system, made.home, "files", made.objects)


def test_files_of_an_archive_are_no_orphans_and_what_nobody_knows_is(logs: LogWorld) -> None:
    logs.archived(400)
    (logs.objects / STRANGER).write_bytes(b"whose?")
    assert of_logs(logs) == ({STRANGER: "orphan_candidate"}, {})
    (file,) = logs.files()
    told = explain_key(logs.system, logs.home, file.key, store="files")  # both stores list the folder
    assert told.facts["item"] == "matched"
    assert f"file of archive logs, unit 2024-01: {file.key.rpartition('/')[2]}" in told.text()


def test_a_file_whose_object_is_gone_is_missing_and_one_of_another_size_damaged(logs: LogWorld) -> None:
    logs.archived(400)
    (file,) = logs.files()
    (logs.objects / STRANGER).write_bytes(b"else the whole store looked lost")
    stranger = {STRANGER: "orphan_candidate"}
    whole = (logs.objects / file.key).read_bytes()
    (logs.objects / file.key).write_bytes(whole[:-20])
    assert of_logs(logs) == (stranger | {file.key: "corrupt_candidate"}, {})
    (logs.objects / file.key).unlink()
    name = f"file of archive logs, unit 2024-01: {file.key.rpartition('/')[2]}"
    assert of_logs(logs) == (stranger, {file.key: ("missing_candidate", name)})
    assert of_logs(logs)[1] == {file.key: ("missing_confirmed", name)}  # seen twice
    (logs.objects / file.key).write_bytes(whole)
    assert of_logs(logs) == (stranger, {})


def test_a_file_on_its_way_out_is_no_orphan_until_it_was_seen_to_be_gone(logs: LogWorld) -> None:
    logs.archived(400)
    (old,) = logs.files()
    logs.apply(LATER)
    assert {file.key for file in logs.files("superseded")} == {old.key}
    assert set(logs.stored_keys()) > {old.key}
    assert of_logs(logs) == ({}, {})
    before = (logs.objects / old.key).read_bytes()
    assert sweep(logs.work(), grace=NOW).gone == [old.key]
    assert of_logs(logs) == ({}, {})  # and nobody misses it
    (logs.objects / old.key).write_bytes(before)  # somebody brings it back
    assert of_logs(logs) == ({old.key: "orphan_candidate"}, {})


def test_what_goes_while_the_store_is_listed_is_no_orphan(logs: LogWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.archived(400)
    logs.apply(LATER)
    from maintenance_defs.reconcile import run as steps

    real = steps.take_references

    def meanwhile(*args: Any, **more: Any) -> Any:
        assert sweep(logs.work(), grace=NOW).gone
        return real(*args, **more)

    monkeypatch.setattr(steps, "take_references", meanwhile)
    assert of_logs(logs) == ({}, {})


@pytest.fixture
def killed_export(logs: LogWorld) -> Iterator[tuple[LogWorld, str]]:
    """A run died between storing a file and recording it; the rows were changed since."""
    run(logs.url, FILL.format(rows=400))
    with pytest.MonkeyPatch.context() as patch:

        def dead(*_: Any, **__: Any) -> None:
            raise Killed

        patch.setattr(exporting, "fetch", dead)
        with pytest.raises(Killed):
            run_archive(logs.system, "logs", logs.home, run_id="test", as_of=COLD)
    (key,) = logs.stored_keys()
    run(logs.url, "UPDATE logs SET line = 'changed' WHERE id = 7")
    yield logs, key


def test_the_object_of_a_killed_export_is_known_and_goes(killed_export: tuple[LogWorld, str]) -> None:
    logs, key = killed_export
    assert of_logs(logs) == ({}, {})  # its export goes on with the next run
    assert sweep(logs.work(), grace=NOW).gone == []
    assert logs.apply(COLD).state == "done"
    (file,) = logs.files()
    assert logs.stored_keys() == sorted([key, file.key])
    assert of_logs(logs) == ({}, {})
    assert sweep(logs.work(), grace=NOW).gone == [key]
    assert logs.stored_keys() == [file.key]
    assert len(logs.read()) == 400


def test_other_bytes_under_the_key_of_an_export_are_not_ours(logs: LogWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """C37: they are neither overwritten nor ever removed, and stay an orphan."""
    run(logs.url, FILL.format(rows=400))
    real = exporting.put_once

    def somebody_else(store: Any, key: str, path: Path, sha256: str) -> Any:
        (logs.objects / key).parent.mkdir(parents=True)
        (logs.objects / key).write_bytes(bytes(path.stat().st_size))
        return real(store, key, path, sha256)

    monkeypatch.setattr(exporting, "put_once", somebody_else)
    with pytest.raises(Refused, match="other bytes"):
        run_archive(logs.system, "logs", logs.home, run_id="test", as_of=COLD)
    assert logs.files("stored", "live", "superseded") == []
    assert list(of_logs(logs)[0].values()) == ["orphan_candidate"]


def test_objects_of_archived_values_are_known_too(pg_database: str, tmp_path: Path) -> None:
    world = World(pg_database, tmp_path).schema()
    others = tuple(one for one in world.system.references if "archive" not in one.store)
    world.system = world.system.model_copy(update={"references": others, "guards": LENIENT})
    world.jobs(2, 320)
    assert set(world.run().values()) == {"set"}
    gone, stays = world.keys()
    (tmp_path / "archive" / "job-results/org-1/stranger.json.gz").write_bytes(b"whose?")
    (tmp_path / "archive" / gone).unlink()
    objects, rows = found(world.system, world.home, "archive", tmp_path / "archive")
    assert objects == {"job-results/org-1/stranger.json.gz": "orphan_candidate"}
    assert rows == {gone: ("missing_candidate", "value of archive job_results, row j000001")}
    assert stays not in objects
