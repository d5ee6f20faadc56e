"""Inventories: sorted, whole or not at all, with the evidence that later steps judge by."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.control.home import Home
from maintenance_defs.core.errors import AsOfInTheFuture
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.stores.local import LocalStore
from tests.support.inventories import NOW, a_system, keys, out_of_order, put, table, taken


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path, files: Path) -> Home:
    return Home(tmp_path / "home", {"STUDIO_AUDIO_URL": str(files)})


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
