"""A1: renders that nobody saved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.systems.answers import check, counts, found, query
from tests.systems.conftest import Bench

Make = Callable[..., Bench]
JOB = "aaaaaaaa-0000-4000-8000-00000000000"
HOST = "https://abcdefghijklmnopqrst.supabase.co/storage/v1"


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_every_render_has_its_job_and_every_job_its_file(bench: Make, where: str) -> None:  # A1 base
    report = bench("renders", where).reconcile()
    assert report.facts["summary"]["orphaned_files"] == 0
    assert report.facts["summary"]["orphaned_records"] == 0
    assert counts(report, "videos") == {"matched": 5}
    assert counts(report, "images") == {"matched": 1}
    assert found(report, "unresolvable_reference") == [JOB + "8"]
    assert found(report, "no_key") == [JOB + "7"]


def test_temporary_files_are_listed_and_compared_with_nothing(bench: Make) -> None:
    temp = next(store for store in bench("renders").reconcile().facts["stores"] if store["name"] == "temp")
    assert (temp["objects"], temp["referenced"], temp["verdict"]) == (3, False, None)


def test_the_seeds_validation_query_finds_five(bench: Make) -> None:  # A1-1
    assert query(bench("renders").reconcile(), "overdue_unsaved") == [(5,)]


RESOLVED = [
    (f"{HOST}/object/sign/videos/a/b.mp4?token=t", "videos", "a/b.mp4"),
    (f"{HOST}/object/public/images/a%20b.png", "images", "a b.png"),
    (f"{HOST}/object/authenticated/videos/x.mp4", "videos", "x.mp4"),
    (f"{HOST}/render/image/public/images/x.png?width=300", "images", "x.png"),
    (f"{HOST}/s3/videos/y.mp4", "videos", "y.mp4"),
]
NOT_RESOLVED = [
    "",
    None,
    "not-a-url",
    "https://cdn.example.com/x/y2.mp4",
    "data:image/png;base64,iVBORw0KGgo=",
    f"{HOST}/object/sign/videos",
    f"{HOST}/object/sign/unknown-bucket/a.mp4",
]


def test_every_form_of_a_storage_url_protects_its_object(bench: Make) -> None:  # the URL table of S1
    renders = bench("renders")
    stores = {name: renders.own_store(name) for name in ("videos", "images")}
    run = renders.own_database()
    for number, (url, store, key) in enumerate(RESOLVED):
        file: Path = stores[store] / key
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
        os.utime(file, (1759000000, 1759000000))
        run(insert(f"bbbbbbbb-0000-4000-8000-00000000000{number}", url))
    for number, value in enumerate(NOT_RESOLVED):
        run(insert(f"cccccccc-0000-4000-8000-00000000000{number}", value))
    report = renders.reconcile()
    assert counts(report, "videos") == {"matched": 8}
    assert counts(report, "images") == {"matched": 3}
    said = {row["row_id"]: row["item"] for row in report.found.rows(ROW_CLASSES, 100)}
    expected = ["no_key", "no_key", "unresolvable_reference", "external_reference"]
    assert [said[f"cccccccc-0000-4000-8000-00000000000{number}"] for number in range(4)] == expected
    for number in range(4, 7):
        assert said[f"cccccccc-0000-4000-8000-00000000000{number}"] in ("unresolvable_reference", "external_reference")
    assert report.facts["summary"]["orphaned_records"] == 0


ROW_CLASSES = ("no_key", "unresolvable_reference", "external_reference", "missing_candidate", "missing_unknown")


def insert(job: str, url: str | None) -> str:
    value = "NULL" if url is None else f"'{url}'"
    return (
        "INSERT INTO render_jobs (id, user_id, status, output_url, created_at) VALUES "
        f"('{job}', '11111111-1111-4111-8111-111111111111', 'completed', {value}, '2025-09-01 00:00:00Z')"
    )


def test_tokens_of_signed_urls_are_in_no_artefact(bench: Make) -> None:  # C03, C-13
    renders = bench("renders")
    renders.reconcile()
    files = [file for file in (renders.folder / "home").rglob("*") if file.is_file()]
    assert any(file.suffix == ".parquet" for file in files)
    for file in files:
        assert b"demo.signature" not in file.read_bytes(), file
        if file.suffix == ".parquet":
            assert "demo.signature" not in repr(pq.read_table(file).to_pylist()), file


def test_urls_of_a_bucket_by_another_name_make_no_orphan(bench: Make) -> None:  # C06
    renders = bench("renders")
    videos = renders.system.stores["videos"].model_copy(update={"bucket": "clips", "bucket_env": None})
    renders.system = renders.system.model_copy(update={"stores": {**renders.system.stores, "videos": videos}})
    report = renders.reconcile()
    assert found(report, "orphan_candidate") == []
    assert counts(report, "videos") == {"matched": 1, "ambiguous": 4}  # the saved one is named by its path
    assert check_guard(report.facts, "unresolvable_references") != "pass"


def test_the_environment_names_the_bucket(bench: Make) -> None:  # S1: SUPABASE_VIDEOS_BUCKET
    renders = bench("renders")
    renders.environment["SUPABASE_VIDEOS_BUCKET"] = "clips"
    renders.own_database()("UPDATE render_jobs SET output_url = REPLACE(output_url, '/videos/', '/clips/')")
    assert counts(renders.reconcile(), "videos") == {"matched": 5}


def check_guard(facts: dict[str, Any], name: str) -> str:
    return next(str(guard["status"]) for guard in facts["guards"] if guard["name"] == name)


def test_a_saved_render_whose_file_is_gone_is_an_error(bench: Make) -> None:  # S1-30
    renders = bench("renders")
    videos = renders.own_store("videos")
    (videos / "11111111-1111-4111-8111-111111111111" / "scene_1759310000005_saved.mp4").unlink()
    report = renders.reconcile()
    assert check(report, "saved_videos_intact")["count"] == 1
    assert found(report, "missing_candidate") == [JOB + "5"]


def test_a_completed_job_without_url_is_held(bench: Make) -> None:  # S1-55, X-34
    renders = bench("renders")
    renders.own_database()(f"UPDATE render_jobs SET output_url = NULL WHERE id = '{JOB}1'")
    assert check(renders.reconcile(), "completed_without_url")["count"] == 1
