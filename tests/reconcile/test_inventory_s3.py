"""Inventories of buckets: what breaks off is never current, and ranges find what one stream finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.reconcile import inventory as room
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.stores import s3_pages
from maintenance_defs.stores.s3 import S3Store
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.inventories import SIGNED, a_system, keys, out_of_order, s3_home, table, taken
from tests.support.servers import SECRET_KEY, client, moto_server, seed


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def proxy(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(s3_pages, "PATIENCE_SECONDS", 0.5)
    with fault_proxy(endpoint, page_keys=10) as made:
        yield made


def test_a_listing_that_breaks_on_page_three_is_incomplete_and_never_current(tmp_path: Path, proxy: FaultProxy) -> None:
    seed("breaks", [f"raw/{n:03}-a.wav" for n in range(45)])
    home = s3_home(tmp_path, proxy.url, "breaks")
    good = taken(home, a_system(**SIGNED))
    assert (good.verdict, good.row_count) == ("complete", 45)
    listed = 0

    def third(request: Any) -> bool:
        nonlocal listed
        listed += "list-type=2" in request.target
        return listed > 2 and "list-type=2" in request.target

    proxy.add(Fault(third, status=503))
    bad = taken(home, a_system(**SIGNED))
    assert (bad.verdict, bad.reason, bad.uri, bad.row_count) == ("incomplete", "incomplete", None, 0)
    assert bad.evidence["listed_before"] == 20
    assert "page 3" in bad.evidence["message"]
    assert home.control.latest("studio", "inventory", "audio", verdict="complete") == good
    assert not list((home.path / "artefacts").rglob(f"*{bad.id}*"))


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(403, "AccessDenied", "store_denied"), (404, "NoSuchBucket", "store_unreachable")],
)
def test_a_store_that_refuses_is_refused_not_empty(
    tmp_path: Path, proxy: FaultProxy, status: int, code: str, reason: str
) -> None:
    seed("refuses", ["raw/1-a.wav"])
    proxy.add(Fault(lambda request: "list-type=2" in request.target, status=status, code=code))
    artefact = taken(s3_home(tmp_path, proxy.url, "refuses"), a_system(**SIGNED))
    assert (artefact.verdict, artefact.reason) == ("refused", reason)
    assert SECRET_KEY not in str(artefact)


def test_a_denial_in_the_middle_is_incomplete(tmp_path: Path, proxy: FaultProxy) -> None:
    seed("denies", [f"raw/{n:03}-a.wav" for n in range(25)])
    proxy.add(Fault(lambda request: "continuation-token" in request.target, status=403, code="ExpiredToken"))
    artefact = taken(s3_home(tmp_path, proxy.url, "denies"), a_system(**SIGNED))
    assert (artefact.verdict, artefact.reason) == ("incomplete", "store_denied")


def test_markers_uploads_and_old_versions_are_told_apart(tmp_path: Path, endpoint: str) -> None:  # F02 F13
    theirs = client(endpoint)
    seed("versions", [])
    theirs.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"one", b"three"):
        theirs.put_object(Bucket="versions", Key="raw/1-a.wav", Body=body)
    theirs.put_object(Bucket="versions", Key="raw/", Body=b"")
    theirs.put_object(Bucket="versions", Key="raw/2-b.wav", Body=b"gone")
    theirs.delete_object(Bucket="versions", Key="raw/2-b.wav")
    theirs.create_multipart_upload(Bucket="versions", Key="raw/3-c.wav")
    home = s3_home(tmp_path, endpoint, "versions")
    artefact = take_inventory(a_system(**SIGNED), "audio", home, run_id="run")
    assert {row["key"]: row["mark"] for row in table(home, artefact).to_pylist()} == {
        "raw/": "directory_marker",
        "raw/1-a.wav": None,
    }
    assert artefact.evidence["scopes"][0]["objects"] == 1
    assert artefact.evidence["scopes"][0]["directory_markers"] == 1
    assert [upload["key"] for upload in artefact.evidence["incomplete_uploads"]] == ["raw/3-c.wav"]
    assert artefact.evidence["noncurrent"] == [3, 3 + 4]  # b"one", b"gone" and a delete marker
    assert artefact.evidence["capabilities"]["versioned"] is True


# -- ranges


def test_the_next_listing_goes_in_ranges_and_finds_the_same(tmp_path: Path, endpoint: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("maintenance_defs.core.parquet.ROW_GROUP_ROWS", 100)
    wanted = [f"raw/{n:04}-a.wav" for n in range(450)]
    seed("ranges", wanted)
    home = s3_home(tmp_path, endpoint, "ranges")
    first = take_inventory(a_system(**SIGNED), "audio", home, run_id="1")
    assert first.evidence["ranges"] == 1
    assert first.evidence["boundaries"] == [f"raw/{n}00-a.wav".replace("/", "/0") for n in (1, 2, 3, 4)]
    seen: list[int] = []
    second = take_inventory(a_system(**SIGNED), "audio", home, run_id="2", progress=seen.append)
    assert second.evidence["ranges"] == 5
    assert keys(home, second) == wanted
    assert sum(seen) == 450
    assert table(home, second).equals(table(home, first))


def test_a_store_that_lost_its_order_is_listed_again_in_one_stream(
    tmp_path: Path, endpoint: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("maintenance_defs.core.parquet.ROW_GROUP_ROWS", 100)
    seed("relist", [f"raw/{n:04}-a.wav" for n in range(250)])
    home = s3_home(tmp_path, endpoint, "relist")
    assert take_inventory(a_system(**SIGNED), "audio", home, run_id="1").evidence["boundaries"]
    rows = [("raw/b", 1), ("raw/a", 1)]
    monkeypatch.setattr(S3Store, "list", out_of_order([rows]))
    again = take_inventory(a_system(**SIGNED), "audio", home, run_id="2")
    assert again.verdict == "complete"
    assert keys(home, again) == ["raw/a", "raw/b"]
    assert again.evidence["ranges"] == 1
    assert "one stream" in again.evidence["notes"][0]
    third = take_inventory(a_system(**SIGNED), "audio", home, run_id="3")
    assert third.evidence["notes"] == []  # without order seen the last time, no ranges are tried


def test_boundaries_are_at_most_fifteen(tmp_path: Path) -> None:
    from maintenance_defs.core.parquet import write_sorted

    batch = next(out_of_order([[(f"k{n:05}", 1) for n in range(4000)]])(None))
    pieces = [batch.slice(n, 100) for n in range(0, 4000, 100)]
    with pq.ParquetWriter(tmp_path / "f.parquet", INVENTORY) as writer:
        for piece in pieces:
            writer.write_batch(piece)
    found = room._quantiles(tmp_path / "f.parquet")
    assert 10 <= len(found) <= 15
    assert found == sorted(found)
    assert write_sorted([], tmp_path / "e.parquet", INVENTORY).row_count == 0
    assert room._quantiles(tmp_path / "e.parquet") == []
