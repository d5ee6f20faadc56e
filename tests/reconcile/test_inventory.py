"""Inventories: sorted, whole or not at all, with the evidence that later steps judge by."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import AsOfInTheFuture
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.reconcile import inventory as room
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.stores import s3_pages
from maintenance_defs.stores.local import LocalStore
from maintenance_defs.stores.s3 import S3Store
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.servers import ACCESS_KEY, SECRET_KEY, moto_server, seed

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


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path, files: Path) -> Home:
    return Home(tmp_path / "home", {"STUDIO_AUDIO_URL": str(files)})


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def proxy(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(s3_pages, "PATIENCE_SECONDS", 0.5)
    with fault_proxy(endpoint, page_keys=10) as made:
        yield made


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


def test_the_file_is_sorted_by_key_bytes_whole_and_described(files: Path, home: Home, monkeypatch: Any) -> None:
    monkeypatch.setattr(LocalStore, "clock", lambda self: NOW)
    names = ["a.txt", "a/b", "a0", "a/b.c/d", "Z", "é", "\ufffd", "\U0001f600", "raw/1-x.wav", "a-/x"]
    for name in names:
        put(files, name)
    artefact = taken(home)
    assert artefact.verdict == "complete"
    found = table(home, artefact)
    assert found.schema.equals(INVENTORY)
    assert keys(home, artefact) == sorted(names, key=str.encode)
    assert found["modified_at"].to_pylist() == [NOW - timedelta(days=1)] * len(names)
    assert artefact.row_count == len(names)
    assert artefact.evidence["sorted"] is False
    assert artefact.evidence["capabilities"]["ordered_listing"] is True
    assert home.control.latest("studio", "inventory", "audio", verdict="complete") == artefact


def test_scopes_are_measured_and_the_platforms_own_objects_are_in_none(
    files: Path, home: Home, monkeypatch: Any
) -> None:
    monkeypatch.setattr(LocalStore, "clock", lambda self: NOW)
    put(files, "raw/1-x.wav", 10, timedelta(days=91))
    put(files, "raw/2-y.wav", 20, timedelta(days=31))
    put(files, "raw/odd.wav", 40, timedelta(days=30))
    put(files, "raw/3-z.wav/below", 80, timedelta(days=1))
    put(files, "final/a.wav", 100)
    put(files, "final2/a.wav", 1000)  # E01: not in final/
    put(files, ".maintenance/quarantine/x", 5000, timedelta(days=400))
    evidence = taken(home).evidence
    assert evidence["scopes"] == [
        {"prefix": "raw/", "class": "temporary", "objects": 4, "size_bytes": 150, "directory_markers": 0,
         "unrecognised": 2, "older_30d": 2, "older_90d": 1},
        {"prefix": "final/", "class": "product", "objects": 1, "size_bytes": 100, "directory_markers": 0,
         "unrecognised": 0, "older_30d": 0, "older_90d": 0},
        {"prefix": "empty/", "class": "product", "objects": 0, "size_bytes": 0, "directory_markers": 0,
         "unrecognised": 0, "older_30d": 0, "older_90d": 0},
    ]  # fmt: skip
    assert evidence["out_of_scope"] == {"objects": 1, "size_bytes": 1000}
    assert evidence["own"] == {"objects": 1, "size_bytes": 5000}
    assert (evidence["totals"]["objects"], evidence["totals"]["size_bytes"]) == (6, 1250)
    assert evidence["oldest_modified_at"] == "2025-11-30T12:00:00Z"
    assert evidence["newest_modified_at"] == "2026-02-28T12:00:00Z"


def test_an_empty_store_is_complete_and_empty(home: Home) -> None:
    artefact = taken(home)
    assert (artefact.verdict, artefact.row_count) == ("complete", 0)
    assert table(home, artefact).num_rows == 0
    assert artefact.evidence["totals"]["objects"] == 0


def test_names_that_are_not_utf8_are_listed_and_marked(files: Path, home: Home) -> None:
    put(files, b"raw/caf\xe9.wav")
    put(files, "raw/1-x.wav")
    put(files, b"raw/\xff/inner")
    artefact = taken(home)
    marks = {row["key"]: row["mark"] for row in table(home, artefact).to_pylist()}
    assert marks == {
        "raw/1-x.wav": None,
        "raw/caf\\xe9.wav": "unaddressable",
        "raw/\\xff/inner": "unaddressable",
    }
    assert artefact.evidence["totals"]["unaddressable"] == 2


def test_links_are_neither_followed_nor_objects(files: Path, home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere, "secret")
    put(files, "final/real")
    (files / "final" / "file-link").symlink_to(elsewhere / "secret")
    (files / "final" / "folder-link").symlink_to(elsewhere)
    (files / "final" / "loop").symlink_to(files)
    os.mkfifo(files / "final" / "pipe")
    artefact = taken(home)
    assert keys(home, artefact) == ["final/real"]
    store = LocalStore(files, "audio")
    linked = ("final/file-link", "final/folder-link/secret", "final/loop/final/real", "final/pipe", "final")
    outside = ("../elsewhere/secret", "/etc/passwd", "final//real", "final/./real", "final/\0", "x" * 300, "")
    for key in linked + outside:
        assert store.head(key) is None
    assert store.head("final/real") is not None


def test_a_folder_that_vanishes_while_it_is_listed_is_no_object_and_no_error(
    files: Path, home: Home, monkeypatch: Any
) -> None:
    for n in range(3):
        put(files, f"final/{n}/a")
    walk = os.open

    def vanishing(path: Any, *arguments: Any, **more: Any) -> int:
        if str(path).endswith("final/1/"):
            os.unlink(files / "final/1/a")  # noqa: PTH108
            os.rmdir(files / "final/1")  # noqa: PTH106
        return walk(path, *arguments, **more)

    monkeypatch.setattr("maintenance_defs.stores.local.os.open", vanishing)
    artefact = taken(home)
    monkeypatch.undo()
    assert artefact.verdict == "complete"
    assert keys(home, artefact) == ["final/0/a", "final/2/a"]


@pytest.mark.parametrize("word", ["vanished", "replaced"])
def test_a_root_that_vanishes_while_it_is_listed_is_incomplete(
    files: Path, home: Home, monkeypatch: Any, word: str
) -> None:
    for n in range(3):
        put(files, f"final/{n}/a")
    walk = os.open

    def unmounting(path: Any, *arguments: Any, **more: Any) -> int:
        if str(path).endswith("final/1/") and not files.with_name("unmounted").exists():
            files.rename(files.with_name("unmounted"))
            if word == "replaced":
                files.mkdir()
        return walk(path, *arguments, **more)

    monkeypatch.setattr("maintenance_defs.stores.local.os.open", unmounting)
    artefact = taken(home, a_system(may_be_absent=True))  # may be absent, not vanish
    monkeypatch.undo()
    assert (artefact.verdict, artefact.uri) == ("incomplete", None)
    assert word in artefact.evidence["message"]


def test_a_folder_that_cannot_be_read_is_not_complete(files: Path, home: Home, monkeypatch: Any) -> None:
    put(files, "final/a")
    put(files, "final/shut/b")
    walk = os.open

    def denying(path: Any, *arguments: Any, **more: Any) -> int:
        if str(path).endswith("final/shut/"):
            raise PermissionError(13, "Permission denied")
        return walk(path, *arguments, **more)

    monkeypatch.setattr("maintenance_defs.stores.local.os.open", denying)  # this test may run as root
    artefact = taken(home)
    assert (artefact.verdict, artefact.reason, artefact.uri) == ("refused", "store_denied", None)
    assert "final/shut" in artefact.evidence["message"]


def test_an_absent_folder_is_refused_unless_it_may_be_absent(home: Home, files: Path) -> None:
    files.rmdir()
    refused = taken(home)
    assert (refused.verdict, refused.reason) == ("refused", "store_unreachable")
    assert home.control.latest("studio", "inventory", "audio", verdict="complete") is None
    absent = taken(home, a_system(may_be_absent=True))
    assert (absent.verdict, absent.row_count) == ("complete", 0)
    assert absent.evidence["notes"] == ["absent"]


def test_a_missing_variable_is_refused_by_name(tmp_path: Path) -> None:
    artefact = taken(Home(tmp_path / "home", {}))
    assert (artefact.verdict, artefact.reason) == ("refused", "environment_missing")
    assert "STUDIO_AUDIO_URL" in artefact.evidence["message"]


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA123:the-secret@bucket",
        "s3://bucket/the-secret/prefix/",
        "s3://bucket?secret_access_key=the-secret",
        "s3://bucket?endpoint_url=http://u:the-secret@h",
        "ftp://the-secret",
        "s3://",
        "az://account",
        "s3://bucket?addressing_style=the-secret",
        "s3://[the-secret",
        "s3://bucket#the-secret",
    ],
)
def test_a_location_that_makes_no_sense_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    artefact = taken(Home(tmp_path / "home", {"STUDIO_AUDIO_URL": url}))
    assert artefact.verdict == "refused"
    assert "STUDIO_AUDIO_URL" in artefact.evidence["message"]
    assert "the-secret" not in str(artefact)


# -- S3


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


def test_markers_uploads_and_old_versions_are_told_apart(tmp_path: Path, endpoint: str) -> None:
    from tests.support.servers import client

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


def test_a_store_without_order_is_sorted_once_and_said_so(home: Home, monkeypatch: Any) -> None:
    monkeypatch.setattr(LocalStore, "list", out_of_order([[("b", 1), ("é", 1)], [], [("a", 1), ("b", 1), ("Z", 1)]]))
    artefact = taken(home)
    assert keys(home, artefact) == ["Z", "a", "b", "é"]
    assert artefact.evidence["sorted"] is True
    assert artefact.evidence["repeated_keys"] == 1
    assert artefact.evidence["capabilities"]["ordered_listing"] is False


@pytest.mark.parametrize(
    "batches", [[[("a", 1), ("a", 2)]], [[("a", 1)], [("a", 2)]], [[("a", 1), ("b", 1)], [("a", 2)]]]
)
def test_a_key_listed_twice_with_different_facts_is_incomplete(home: Home, monkeypatch: Any, batches: Any) -> None:
    monkeypatch.setattr(LocalStore, "list", out_of_order(batches))
    artefact = taken(home)
    assert (artefact.verdict, artefact.reason, artefact.uri) == ("incomplete", "incomplete", None)


@pytest.mark.parametrize("batches", [[[("a", 1), ("a", 1), ("a", 1)]], [[("a", 1)], [("a", 1)], [("a", 1)]]])
def test_a_key_repeated_with_the_same_facts_is_kept_once(home: Home, monkeypatch: Any, batches: Any) -> None:
    monkeypatch.setattr(LocalStore, "list", out_of_order(batches))
    artefact = taken(home)
    assert (keys(home, artefact), artefact.evidence["repeated_keys"]) == (["a"], 2)


# -- time


def test_a_worker_that_is_days_ahead_makes_nothing_old(files: Path, home: Home, monkeypatch: Any) -> None:
    monkeypatch.setattr(LocalStore, "clock", lambda self: NOW)
    put(files, "final/a", age=timedelta(days=28))
    ahead = NOW + timedelta(days=3)
    artefact = take_inventory(a_system(), "audio", home, run_id="run", clock=lambda: ahead)
    assert artefact.as_of == NOW
    assert artefact.evidence["scopes"][1]["older_30d"] == 0


def test_as_of_in_the_future_is_refused_and_an_earlier_one_kept(home: Home, monkeypatch: Any) -> None:
    monkeypatch.setattr(LocalStore, "clock", lambda self: NOW - timedelta(hours=1))
    with pytest.raises(AsOfInTheFuture, match="store audio"):
        taken(home, as_of=NOW)
    assert home.control.latest("studio", "inventory", "audio") is None
    assert taken(home, as_of=NOW - timedelta(days=7)).as_of == NOW - timedelta(days=7)
    # A run hands one store's instant to the next: clocks that differ by seconds must not stop it.
    assert taken(home, as_of=NOW - timedelta(minutes=59, seconds=30)).as_of == NOW - timedelta(hours=1)


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
