"""kill -9 at every step of an expiry: at no moment is a row lost that stays, and in the end nothing is left over."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.archive.objects import fetch
from tests.archive.world import LogWorld
from tests.support.servers import ACCESS_KEY, SECRET_KEY, client, moto_server

ROOT = Path(__file__).parents[2]
WHOLE = {"layout": "per_org", "path": "logs/{org}/month={month}/"}
SECRET = WHOLE | {"encryption": {"key_env": "KEY"}}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.mark.parametrize(
    ("archive", "held", "bucket"),
    [
        (WHOLE, False, None),
        pytest.param({}, False, None, marks=pytest.mark.long),
        (SECRET, True, None),
        pytest.param({}, True, "versions", marks=pytest.mark.long),
    ],
    ids=["whole", "again", "again-encrypted", "again-in-versions"],
)
def test_killed_at_every_step_it_ends_alike(
    archive: dict[str, Any], held: bool, bucket: str | None, tmp_path: Path, pg_database: str, endpoint: str
) -> None:  # I118 V4 V11
    more: dict[str, Any] = {}
    if bucket is not None:
        theirs = client(endpoint)
        theirs.create_bucket(Bucket=bucket)
        theirs.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        more = {"bucket_url": f"s3://{bucket}?endpoint_url={endpoint}",
                "environment": {"AK": ACCESS_KEY, "SK": SECRET_KEY}}  # fmt: skip
    made = LogWorld(tmp_path, pg_database, archive=archive, **more)
    made.archived(400)
    if held:
        made.hold(table="logs", row_id="job-4")
    old = next(file for file in made.files() if "a" in made.groups(file))
    before = made.read()
    stays = [row for row in before if row["org"] != "a" or (held and row["job"] == "job-4")]
    assert len(stays) < len(before)
    for at in range(1, 80):
        told = {"at": at, "file": old.id,
                "world": {"folder": str(tmp_path), "url": pg_database, "archive": archive, **more}}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "tests.archive.dying", json.dumps(told)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode in (0, -9), done.stderr
        assert made.read() in (before, stays), f"killed at step {at}"
        for file in made.files():
            fetch(made.store().reading, file.key, tmp_path / "whole", file.sha256, size_bytes=file.size_bytes)
        if done.returncode == 0:
            break
    assert at > 4
    assert made.read() == stays
    assert sorted(file.key for file in made.files()) == made.stored_keys()  # no object that nobody knows of
    assert all(file.object_gone_at for file in made.files("superseded", "expired", "stored"))
    if bucket is not None:
        page = theirs.list_object_versions(Bucket=bucket, Prefix="logs/")
        assert {one["Key"] for one in page["Versions"]} == {file.key for file in made.files()}
        assert not page.get("DeleteMarkers")
