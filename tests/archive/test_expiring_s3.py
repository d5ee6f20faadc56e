"""Expiry in a bucket that keeps versions, and in one that locks them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.units.expiring import expire_file, sweep
from tests.archive.world import LATER, LogWorld
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client, moto_server

WHOLE = {"layout": "per_org", "path": "logs/{org}/month={month}/"}
NOW = timedelta(0)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


class Bucket:
    def __init__(self, endpoint: str, *, locks: bool = False) -> None:
        self.name = f"archive-{uuid.uuid4().hex[:12]}"
        self.theirs = client(endpoint)
        self.theirs.create_bucket(Bucket=self.name, ObjectLockEnabledForBucket=locks)
        if not locks:
            self.theirs.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
        self.url = f"s3://{self.name}?endpoint_url={endpoint}"

    def world(self, folder: Path, url: str, archive: dict[str, Any]) -> LogWorld:
        environment = {"AK": ACCESS_KEY, "SK": SECRET_KEY}
        return LogWorld(folder, url, archive=archive, bucket_url=self.url, environment=environment)

    def versions(self, key: str = "") -> list[tuple[str, str]]:
        page = self.theirs.list_object_versions(Bucket=self.name, Prefix=key)
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        return [(one["Key"], one["VersionId"]) for one in found if not one["Key"].startswith(".maintenance/")]


def test_an_expired_file_is_gone_in_every_version(tmp_path: Path, pg_database: str, endpoint: str) -> None:  # G98
    bucket = Bucket(endpoint)
    world = bucket.world(tmp_path, pg_database, WHOLE)
    world.archived(400)
    file = next(one for one in world.files() if one.label == "a")
    assert file.version_id
    bucket.theirs.delete_object(Bucket=bucket.name, Key=file.key)  # somebody's marker hides it: hidden is not gone
    assert len(bucket.versions(file.key)) == 2
    done = world.apply(LATER)
    assert done.counts == {"deleted": 1}, done.problems
    assert bucket.versions(file.key) == []
    assert world.files("expired")[0].object_gone_at is not None
    assert {key for key, _ in bucket.versions()} == {one.key for one in world.files()}


@pytest.mark.parametrize("mode", ["COMPLIANCE", "GOVERNANCE", "legal hold"])
@pytest.mark.parametrize("archive", [WHOLE, {}], ids=["whole", "again"])
def test_a_locked_object_waits_and_readers_still_see_it(
    tmp_path: Path, pg_database: str, endpoint: str, mode: str, archive: dict[str, Any]
) -> None:  # G96
    bucket = Bucket(endpoint, locks=True)
    world = bucket.world(tmp_path, pg_database, archive)
    world.archived(400)
    file = next(one for one in world.files() if "a" in world.groups(one))
    until = datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC)
    if mode == "legal hold":
        bucket.theirs.put_object_legal_hold(Bucket=bucket.name, Key=file.key, LegalHold={"Status": "ON"})
    else:
        lock = {"Mode": mode, "RetainUntilDate": until}
        bucket.theirs.put_object_retention(Bucket=bucket.name, Key=file.key, Retention=lock)
    before = bucket.versions()
    done = world.apply(LATER)
    assert done.counts == {"skipped_kept": 1}
    said = str(done.problems[0]["detail"])
    assert said.startswith("waits_for_lock")
    assert ("2031-05-04 03:02:01Z" in said) == (mode != "legal hold")
    assert file in world.files()
    assert bucket.versions() == before  # and no delete marker


def test_a_lock_on_an_older_version_counts_too(tmp_path: Path, pg_database: str, endpoint: str) -> None:  # G96
    bucket = Bucket(endpoint, locks=True)
    world = bucket.world(tmp_path, pg_database, WHOLE)
    world.archived(400)
    file = next(one for one in world.files() if one.label == "a")
    lock = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime(2031, 1, 1, tzinfo=UTC)}
    bucket.theirs.put_object_retention(Bucket=bucket.name, Key=file.key, Retention=lock)
    body = bucket.theirs.get_object(Bucket=bucket.name, Key=file.key)["Body"].read()
    bucket.theirs.put_object(Bucket=bucket.name, Key=file.key, Body=body)  # a newer one, without a lock
    assert world.apply(LATER).counts == {"skipped_kept": 1}
    assert len(bucket.versions(file.key)) == 2


def test_a_lock_put_on_an_old_object_keeps_it_until_its_date(tmp_path: Path, pg_database: str, endpoint: str) -> None:
    bucket = Bucket(endpoint, locks=True)
    world = bucket.world(tmp_path, pg_database, {})
    world.archived(400)
    (old,) = world.files()
    assert expire_file(world.work(), world.line(old, "a"))[0] == "set"
    bucket.theirs.put_object_legal_hold(Bucket=bucket.name, Key=old.key, LegalHold={"Status": "ON"})
    swept = sweep(world.work(), grace=NOW)
    assert swept.gone == []
    assert swept.waiting[0][0] == old.key
    assert swept.waiting[0][1].startswith("waits_for_lock")
    assert world.files("superseded")[0].object_gone_at is None
    bucket.theirs.put_object_legal_hold(Bucket=bucket.name, Key=old.key, LegalHold={"Status": "OFF"})
    assert sweep(world.work(), grace=NOW).gone == [old.key]
    assert bucket.versions(old.key) == []
