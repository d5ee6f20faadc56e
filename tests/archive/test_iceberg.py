"""The archive as an Iceberg table: exactly what the catalogue says, read by others, and no object of ours at risk."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from maintenance_defs.archive.gate import run_archive
from maintenance_defs.archive.iceberg import IcebergUnavailable
from maintenance_defs.archive.units.expiring import sweep
from maintenance_defs.archive.units.returning import into_place, put_back
from maintenance_defs.core.errors import Refused
from tests.archive.iceberg_world import (
    ICEBERG,
    PER_ORG,
    TABLE,
    iceberg_world,
    ids,
    loaded,
    mine,
    objects,
    published,
    read,
    stands,
    uri,
)
from tests.archive.world import COLD, FILL, LATER, MUCH_LATER
from tests.support.months import rows
from tests.support.postgres import execute as run


@pytest.fixture
def world(tmp_path: Path, pg_database: str) -> Any:
    return lambda **archive: iceberg_world(tmp_path, pg_database, **archive)


def test_another_process_reads_the_rows_that_left_from_the_very_files(world: Any) -> None:
    made = world(**PER_ORG)
    run(made.url, FILL.format(rows=4000), "UPDATE public.logs SET org = 'c/d é?#%' WHERE org = 'c'")
    assert made.apply(COLD).state == "done"
    before = objects(made)
    done = stands(made)  # applying the plan published it
    assert (done.well, done.files, done.rows, done.left_out) == (True, 4, 4000, ())
    found = read(made)
    assert found["rows"] == mine(made)
    assert found["types"]["amount"] == "decimal128(10, 2)"
    assert found["types"]["at"] == "timestamp[us, tz=UTC]"
    assert objects(made) == before
    assert [key for key in made.stored_keys() if not key.startswith(("logs/", "iceberg/lake.logs/metadata/"))] == []
    where = loaded(made).metadata_location
    assert published(made).added == 0
    assert loaded(made).metadata_location == where  # nothing to do is no commit


def test_rows_are_in_the_table_or_in_iceberg_and_never_in_both(world: Any) -> None:  # V6
    made = world(undo_window="7 d")
    run(made.url, FILL.format(rows=400))
    run_archive(made.system, "logs", made.home, run_id="test", as_of=COLD)
    assert made.unit().state == "catalogued"
    assert (stands(made).in_table, stands(made).files, ids(made)) == (("2024-01",), 0, [])
    made.apply(COLD)
    assert made.unit().state == "detached"
    assert (stands(made).in_table, len(ids(made))) == ((), 400)
    put_back(made.work(), made.unit(), actor="ann", reason="needed")
    assert rows(made.url, "SELECT count(*) FROM public.logs") == [(400,)]
    assert (stands(made).well, ids(made)) == (True, [])


def test_rows_put_back_in_place_leave_iceberg(world: Any) -> None:
    made = world()
    made.archived(400)
    assert len(ids(made)) == 400
    into_place(made.work(), [made.unit()], actor="ann", reason="needed")
    assert (stands(made).well, ids(made)) == (True, [])


def test_what_expires_leaves_the_table_and_its_snapshots_before_its_object_goes(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # V11
    made = world(**PER_ORG)
    made.archived()
    (old,) = [file for file in made.files() if file.label == "a"]
    named: list[bool] = []
    from maintenance_defs.stores.immutable_local import LocalImmutable

    remove = LocalImmutable.remove

    def watched(store: Any, key: str) -> Any:
        if key == old.key:
            table = loaded(made)
            named.append(any(old.key in task.file.file_path for task in table.scan().plan_files()))
            assert len(table.metadata.snapshots) == 1
            texts = [table.io.new_input(table.metadata_location).open().read()]
            for manifest in table.current_snapshot().manifests(table.io):  # type: ignore[union-attr]
                entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
                texts += [entry.data_file.file_path.encode() for entry in entries]
            assert not any(old.sha256[:16].encode() in text for text in texts)
        return remove(store, key)

    monkeypatch.setattr(LocalImmutable, "remove", watched)
    assert made.apply(LATER).counts == {"deleted": 1}
    assert named == [False]
    assert old.key not in made.stored_keys()
    assert (stands(made).well, len(ids(made))) == (True, 3000)


def test_no_object_goes_while_the_table_may_still_name_it(world: Any) -> None:
    made = world(**PER_ORG)
    made.archived()
    (old,) = [file for file in made.files() if file.label == "a"]
    whole = made.home.environment
    made.home.environment = dict(whole) | {"ICEBERG_CATALOG": "sqlite:////nonexistent/folder/iceberg.db"}
    done = made.apply(LATER)
    assert (done.state, done.counts) == ("partial", {"failed": 1})
    assert "did not answer" in str(done.problems[0]["detail"])
    assert old.key in made.stored_keys()
    made.home.environment = whole
    assert sweep(made.work()).gone == [old.key]
    assert (stands(made).well, len(ids(made))) == (True, 3000)


def test_a_file_that_was_written_again_is_named_in_its_new_form_only(world: Any) -> None:
    made = world()
    made.archived()
    (old,) = made.files()
    assert made.apply(LATER).counts == {"set": 1}
    assert old.key in made.stored_keys()  # for an hour
    assert [task.file.file_path.rpartition("/logs/")[2] for task in loaded(made).scan().plan_files()] == [
        file.key.removeprefix("logs/") for file in made.files()
    ]
    assert read(made)["rows"] == mine(made)
    assert len(ids(made)) == 3000
    made.apply(MUCH_LATER)
    assert len(ids(made)) == 2000
    assert len(loaded(made).metadata.snapshots) == 1


def test_the_table_is_made_anew_from_nothing(world: Any) -> None:
    made = world(**PER_ORG)
    made.archived()
    before, found = objects(made), read(made)["rows"]
    Path(uri(made).removeprefix("sqlite:///")).unlink()
    assert not stands(made).exists
    assert published(made).added == 4
    assert read(made)["rows"] == found
    shutil.rmtree(made.objects / "iceberg")
    with pytest.raises(Refused, match=r"metadata of the Iceberg table .* --rebuild"):
        published(made)
    assert published(made, rebuild=True).added == 4
    assert read(made)["rows"] == found
    assert objects(made) == before


def test_a_table_that_is_not_ours_is_never_touched(world: Any) -> None:  # V10
    made = world()
    catalog = SqlCatalog("maintenance", uri=uri(made), warehouse=str(made.folder / "theirs"))
    catalog.create_namespace("lake")
    from pyiceberg.schema import Schema
    from pyiceberg.types import LongType, NestedField

    theirs = catalog.create_table(TABLE, Schema(NestedField(1, "n", LongType())))
    made.archived(40)
    for rebuild in (False, True):
        with pytest.raises(Refused, match="Nothing was"):
            published(made, rebuild=rebuild)
    assert catalog.load_table(TABLE).metadata == theirs.metadata
    catalog.drop_table(TABLE)
    at = f"file://{made.objects}/iceberg/{TABLE}"
    ours = catalog.create_table(TABLE, Schema(NestedField(1, "n", LongType())), location=at)
    for rebuild in (False, True):
        with pytest.raises(Refused, match="is not that of app/logs"):
            published(made, rebuild=rebuild)
    assert catalog.load_table(TABLE).metadata == ours.metadata


def test_a_copy_of_the_database_changes_nothing(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # G103
    made = world()
    made.archived(40)
    name = rows(made.url, "SELECT current_database()")[0][0]
    copy = made.url.replace(name, f"{name}_copy")
    run(made.url.replace(name, "postgres"), f"CREATE DATABASE {name}_copy TEMPLATE {name}")
    try:
        where = loaded(made).metadata_location
        made.home.environment = dict(made.home.environment) | {"DB": copy}
        with pytest.raises(Refused, match="is of another database than app/logs has now"):
            published(made)
        assert loaded(made).metadata_location == where
        assert published(made, rebuild=True).well  # it has taken the other's place
    finally:
        run(made.url.replace(name, "postgres"), f"DROP DATABASE {name}_copy WITH (FORCE)")


def test_rows_that_somebody_deleted_in_the_table_come_back(world: Any) -> None:
    made = world()
    made.archived(400)
    loaded(made).delete("id >= 0")
    assert ids(made) == []
    assert not stands(made).well
    assert published(made).well
    assert len(ids(made)) == 400
    assert len(loaded(made).metadata.snapshots) == 1


def test_columns_that_somebody_renamed_are_put_right(world: Any) -> None:
    made = world()
    made.archived(40)
    with loaded(made).update_schema() as update:
        update.rename_column("line", "words")
    assert "its columns are not those of the archive" in stands(made).other
    published(made)
    assert read(made)["rows"] == mine(made)


def test_without_pyiceberg_it_is_said_how_to_get_it_and_the_archive_goes_on(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world()
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyiceberg"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("maintenance_defs.archive.iceberg.")]:
        if not name.endswith((".door", ".standing")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyiceberg", None)
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    made.archived(40)
    with pytest.raises(IcebergUnavailable, match=r"pip install 'maintenance-defs\[iceberg\]'"):
        published(made)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"class": "phi", "encryption": "store", "keep": "forever"}, "who reads class phi is put on record"),
        (PER_ORG | {"encryption": {"key_env": "KEY"}}, "no keys of encrypted files"),
        ({"iceberg": ICEBERG | {"path": "logs/month=/"}}, "lie in one another"),
        ({"iceberg": ICEBERG | {"path": "meta"}}, "must end in '/'"),
        ({"iceberg": ICEBERG | {"path": "a?b/"}}, "take '[?]' and '#'"),
        ({"iceberg": ICEBERG | {"table": "logs"}}, "pattern"),
    ],
)
def test_what_cannot_be_published_does_not_load(
    tmp_path: Path, pg_database: str, what: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        iceberg_world(tmp_path, pg_database, **what)


def test_metadata_that_nobody_needs_goes_an_hour_later_and_nothing_else_does(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world(**PER_ORG)
    made.archived()
    folder = made.objects / "iceberg" / TABLE / "metadata"
    (folder / "notes.txt").write_text("of somebody")
    (made.objects / "iceberg" / "other.avro").write_text("of somebody")
    for n in range(3):
        (folder / f"left-{n}.avro").write_bytes(b"of a run that was killed")
    published(made)
    assert len(list(folder.glob("left-*"))) == 3  # somebody may still be reading or writing
    from maintenance_defs.stores.local import LocalStore

    later = datetime.now(UTC) + timedelta(hours=2)
    monkeypatch.setattr(LocalStore, "clock", lambda store: later)
    before = objects(made)
    published(made)
    assert not list(folder.glob("left-*"))
    named = [Path(one.metadata_file.removeprefix("file://")) for one in loaded(made).metadata.metadata_log]
    assert named and all(path.exists() for path in named)
    assert (folder / "notes.txt").exists()
    assert (made.objects / "iceberg" / "other.avro").exists()
    assert objects(made) == before
    assert read(made)["rows"] == mine(made)
    assert len(list(folder.iterdir())) <= 10
