"""A2: pages to colour in."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.systems.answers import check, counts, found, query
from tests.systems.conftest import Bench

Make = Callable[..., Bench]
ORPHANS = ["assets/cat/pl_preview.png", "assets/dog/pl_preview.png", "assets/lion/pl_preview.png"]


@pytest.mark.parametrize("where", ["folder", "s3"])
@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_three_files_have_no_record_and_150_records_have_their_file(
    bench: Make, where: str, dialect: str
) -> None:  # A2-1
    colouring = bench("colouring", where)
    if dialect == "sqlite":
        colouring.own_database("sqlite")
    report = colouring.reconcile()
    assert report.diff.verdict == "complete", report.facts["message"]
    assert found(report, "orphan_candidate") == ORPHANS
    assert counts(report, "pages") == {"matched": 150, "orphan_candidate": 3}
    assert report.facts["rows"]["checked"] == 150
    assert report.facts["summary"]["orphaned_records"] == 0


def test_a_report_changes_neither_objects_nor_rows(bench: Make) -> None:  # A2-2
    colouring = bench("colouring")
    store = colouring.own_store("pages")
    before = {file: file.stat().st_mtime_ns for file in store.rglob("*")}
    first, second = colouring.reconcile(), colouring.reconcile()
    assert {file: file.stat().st_mtime_ns for file in store.rglob("*")} == before
    assert found(first, "orphan_candidate") == found(second, "orphan_candidate")


def test_a_removed_file_leaves_an_orphaned_record(bench: Make) -> None:  # A2-3
    colouring = bench("colouring")
    (colouring.own_store("pages") / "assets/owl/en_page.pdf").unlink()
    report = colouring.reconcile()
    assert [row["key"] for row in report.facts["rows"]["missing"]] == ["assets/owl/en_page.pdf"]
    summary = report.facts["summary"]
    assert (summary["orphaned_files"], summary["orphaned_records"]) == (3, 1)


def test_without_the_three_files_nothing_is_found(bench: Make) -> None:  # A2-4
    colouring = bench("colouring")
    store = colouring.own_store("pages")
    for key in ORPHANS:
        (store / key).unlink()
    report = colouring.reconcile()
    assert counts(report, "pages") == {"matched": 150}
    assert (report.facts["summary"]["orphaned_files"], report.facts["summary"]["orphaned_records"]) == (0, 0)


def test_records_without_a_key_are_counted_apart(bench: Make) -> None:  # S2-10
    colouring = bench("colouring")
    run = colouring.own_database()
    run("UPDATE assets SET storage_key = NULL WHERE storage_key = 'assets/owl/en_page.pdf'")
    run("UPDATE assets SET storage_key = '  ' WHERE storage_key = 'assets/owl/de_page.pdf'")
    report = colouring.reconcile()
    assert check(report, "records_without_key")["count"] == 2
    assert len(found(report, "no_key")) == 2
    assert report.facts["summary"]["orphaned_records"] == 0


def test_a_file_of_another_size_than_its_record_says_is_not_matched(bench: Make) -> None:  # J04
    colouring = bench("colouring")
    file = colouring.own_store("pages") / "assets/ant/en_page.pdf"
    times = file.stat()
    with file.open("r+b") as out:
        out.truncate(17)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert found(colouring.reconcile(), "corrupt_candidate") == ["assets/ant/en_page.pdf"]


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_failed_jobs_name_the_pages_with_orphans(bench: Make, dialect: str) -> None:  # S2-2
    colouring = bench("colouring")
    if dialect == "sqlite":
        colouring.own_database("sqlite")
    rows = query(colouring.reconcile(), "failed_or_retried_jobs")
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        ("lion", "failed", 2, 8),
        ("cat", "failed", 2, 8),
        ("dog", "failed", 2, 8),
    ]
