"""Publishing an Iceberg table while others do, and killed at any moment; in a bucket, in a catalogue in PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException

from maintenance_defs.archive.iceberg import bringing
from maintenance_defs.archive.units.expiring import expire_file, sweep
from maintenance_defs.stores.immutable_local import LocalImmutable
from tests.archive.iceberg_world import (
    ICEBERG,
    PER_ORG,
    TABLE,
    iceberg_world,
    loaded,
    mine,
    published,
    read,
    stands,
    uri,
)
from tests.archive.test_expiring import NOW
from tests.archive.world import COLD, FILL, LATER, LogWorld
from tests.support.postgres import execute as run
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client, moto_server


class Killed(BaseException):
    """kill -9."""


@contextmanager
def killed_at(moment: int) -> Iterator[list[str]]:
    """The process ends before or after one of the changes that publishing makes; what they were."""
    told: list[str] = []

    def dying(name: str, real: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            told.append(f"before {name}")
            if len(told) > moment:
                raise Killed
            done = real(*args, **kwargs)
            told.append(f"after {name}")
            if len(told) > moment:
                raise Killed
            return done

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalImmutable, "create", dying("create", LocalImmutable.create))
        patch.setattr(LocalImmutable, "remove", dying("remove", LocalImmutable.remove))
        patch.setattr(SqlCatalog, "commit_table", dying("commit", SqlCatalog.commit_table))
        patch.setattr(SqlCatalog, "create_table", dying("table", SqlCatalog.create_table))
        yield told


def test_killed_at_any_moment_the_next_run_puts_it_right(tmp_path: Path, pg_database: str) -> None:
    made = iceberg_world(tmp_path, pg_database, **PER_ORG)
    made.archived(40)
    moment = 0
    while True:
        Path(uri(made).removeprefix("sqlite:///")).unlink()
        shutil.rmtree(made.objects / "iceberg")
        with killed_at(moment) as told:
            try:
                published(made)
                break
            except Killed:
                moment += 1
        found = stands(made)  # never half: it is there whole, or not yet
        assert not found.extra
        assert len(found.missing) in (0, found.files)
        assert published(made).well
    assert moment > 8, told
    assert read(made)["rows"] == mine(made)


def test_killed_while_it_expires_nothing_names_an_object_that_is_gone(tmp_path: Path, pg_database: str) -> None:  # V11
    made = iceberg_world(tmp_path, pg_database, **PER_ORG)
    made.archived(400)
    moment = 0
    (old,) = [file for file in made.files() if file.label == "a"]
    while old.key in made.stored_keys():
        with killed_at(moment):
            try:
                expire_file(made.work(), made.line(old, "a"))
            except Killed:
                named = {task.file.file_path.rpartition("/archive/")[2] for task in loaded(made).scan().plan_files()}
                assert named <= set(made.stored_keys())
        moment += 1
        assert moment < 40
    assert moment > 4
    sweep(made.work(), grace=NOW)
    assert (stands(made).well, read(made)["rows"]) == (True, mine(made))


@pytest.mark.parametrize("step", ["_commit", "_data_file", "_Exactly"])  # before, while and after files are looked at
def test_who_was_too_late_does_not_bring_back_what_has_expired(
    step: str, tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iceberg_world(tmp_path, pg_database, **PER_ORG)
    made.archived(400)
    (old,) = [file for file in made.files() if file.label == "a"]
    Path(uri(made).removeprefix("sqlite:///")).unlink()
    real, commit, went, failed = getattr(bringing, step), SqlCatalog.commit_table, [], []

    def late(*args: Any, **more: Any) -> Any:
        """Before this step, somebody else publishes, and then expires a file that is about to be added."""
        if not went:
            went.append(step)
            assert published(made).well
            assert made.apply(LATER).counts == {"deleted": 1}
        return real(*args, **more)

    def committed(*args: Any, **kwargs: Any) -> Any:
        try:
            done = commit(*args, **kwargs)
        except CommitFailedException:
            failed.append(step)
            raise
        named = {task.file.file_path.rpartition("/archive/")[2] for task in loaded(made).scan().plan_files()}
        assert named <= set(made.stored_keys())
        return done

    monkeypatch.setattr(bringing, step, late)
    monkeypatch.setattr(SqlCatalog, "commit_table", committed)
    assert published(made).well
    if step == "_Exactly":
        assert failed == [step]  # refused by the catalogue, and not repeated on top of what the other one did
    assert old.key not in made.stored_keys()
    assert read(made)["rows"] == mine(made)


def test_a_bucket_and_a_catalogue_in_postgresql(tmp_path: Path, pg_database: str) -> None:
    with moto_server() as endpoint:
        client(endpoint).create_bucket(Bucket="iceberg")
        made = LogWorld(
            tmp_path, pg_database, archive={"iceberg": ICEBERG} | PER_ORG,
            bucket_url=f"s3://iceberg?endpoint_url={endpoint}",
            environment={"AK": ACCESS_KEY, "SK": SECRET_KEY, "ICEBERG_CATALOG": pg_database},
        )  # fmt: skip
        made.archived(400)
        assert stands(made).well
        table = SqlCatalog(
            "maintenance", uri=pg_database,
            **{"s3.endpoint": endpoint, "s3.access-key-id": ACCESS_KEY, "s3.secret-access-key": SECRET_KEY,
               "s3.region": "us-east-1"},
        ).load_table(TABLE)  # fmt: skip
        assert table.location() == f"s3://iceberg/iceberg/{TABLE}"
        assert sorted(table.scan().to_arrow()["id"].to_pylist()) == [row["id"] for row in made.read()]
        assert made.apply(LATER).counts == {"deleted": 1}
        assert table.refresh().scan().to_arrow().num_rows == 300


def test_an_implementation_of_others_reads_it(tmp_path: Path, pg_database: str) -> None:
    """Iceberg in Rust, under DataFusion: `pip install pyiceberg-core==0.11 'datafusion<55'`, not in the locked set."""
    core = pytest.importorskip("pyiceberg_core.datafusion", reason="pyiceberg-core is not installed")
    datafusion = pytest.importorskip("datafusion", reason="datafusion is not installed")
    made = iceberg_world(tmp_path, pg_database, layout="per_org", path="logs/p_org={org}/month={month}/")
    run(made.url, FILL.format(rows=400), "UPDATE public.logs SET org = 'c/d é?#%' WHERE org = 'c'")
    made.apply(COLD)
    made.apply(LATER)
    table = core.IcebergDataFusionTable(
        identifier=TABLE.split("."), metadata_location=loaded(made).metadata_location, file_io_properties={}
    )
    session = datafusion.SessionContext()
    session.register_table("logs", table)
    found = session.sql("SELECT id, org, line, amount, facts FROM logs ORDER BY id").to_arrow_table().to_pylist()
    assert len(found) == 300
    assert found == [{name: row[name] for name in ("id", "org", "line", "amount", "facts")} for row in made.read()]
