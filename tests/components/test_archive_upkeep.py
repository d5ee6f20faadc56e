"""Signs that an archive is well, months made ahead, and the drill: each is seen to be well, and to be not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from maintenance_defs.databases.archiving import ArchiveDatabase, open_archive_database
from maintenance_defs.reconcile.run import reconcile
from tests.components.archive_world import DIARY, Diary
from tests.components.test_assets import checks, failures, materialised
from tests.support.months import execute, part, read, rows

CATALOGUE = """\
      catalogue:
        table: public.log_files
        columns: {id: id, job: value, object: key, lines: rows}
"""
WITH_CATALOGUE = DIARY.replace("      undo_window: 0 d\n", f"      undo_window: 0 d\n{CATALOGUE}")
TABLE = "CREATE TABLE public.log_files (id text PRIMARY KEY, job text, object text, lines bigint)"
Signs = dict[str, tuple[bool, str, str]]


@pytest.fixture
def diary(pg_database: str, instance: dg.DagsterInstance, tmp_path: Path) -> Diary:
    diary = Diary(tmp_path / "diary", pg_database, instance, WITH_CATALOGUE)
    execute(diary.url, TABLE)
    return diary


def planned(diary: Diary) -> Signs:
    result = diary.asset("logs_plan")
    assert result.success, failures(result)
    return {name.removeprefix("logs_plan."): found for name, found in checks(result).items()}


def leave(diary: Diary) -> None:
    diary.asset("logs_plan")
    assert diary.approve().success
    assert diary.asset("logs_removal").success


def object_of(diary: Diary, label: str) -> Path:
    [found] = (diary.folder / "cold/logs" / label).glob("*.parquet")
    return found


def test_an_archive_that_is_well_shows_it(diary: Diary) -> None:
    diary.asset("logs_ahead")
    leave(diary)
    reconcile(diary.system, diary.home, folder=diary.folder)
    found = planned(diary)
    assert {name for name, (passed, _, _) in found.items() if not passed} == set()
    assert set(found) == {
        "enabled", "periods_valid", "hot_age", "no_pending_detach", "months_ahead", "nothing_stopped", "store_agrees",
        "catalogue_agrees",
    }  # fmt: skip


def test_rows_that_stay_too_long_are_told(diary: Diary) -> None:
    """S4-83: 30 days hot are 62 at most, since whole months leave."""
    passed, severity, why = planned(diary)["hot_age"]
    assert (passed, severity) == (False, "WARN")
    assert "2024-01-01" in why
    assert "62 d" in why
    leave(diary)
    assert planned(diary)["hot_age"][0]


def test_a_partition_that_is_half_detached_is_told(diary: Diary) -> None:
    """D52, L9. The server's own mark, as a cancelled wait leaves it."""
    execute(
        diary.url, "UPDATE pg_inherits SET inhdetachpending = true WHERE inhrelid = 'public.logs_2024_01'::regclass"
    )
    assert part(diary_database(diary)).detach_pending
    passed, severity, why = planned(diary)["no_pending_detach"]
    assert (passed, severity) == (False, "ERROR")
    assert r"logs\_2024\_01 is half detached" in why


def test_months_to_come_are_made_and_missed(diary: Diary) -> None:
    """E71: inserts of a month without a partition fail."""
    passed, severity, why = planned(diary)["months_ahead"]
    assert (passed, severity) == (False, "ERROR")
    assert "maintain archive ahead diary" in why
    page = materialised(diary.asset("logs_ahead"))["logs_ahead"]
    assert page["created"] == 3
    assert planned(diary)["months_ahead"][0]
    again = materialised(diary.asset("logs_ahead"))["logs_ahead"]
    assert again["created"] == 0
    now = datetime.now(UTC)
    lowers = [one.lower for one in read(diary_database(diary)).partitions if one.lower and one.lower.year > 2024]
    assert min(lowers) == now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    drop = "DROP TABLE public." + part_of(diary, max(lowers))
    execute(diary.url, drop)
    passed, severity, _ = planned(diary)["months_ahead"]
    assert (passed, severity) == (False, "WARN")  # months away


def test_a_plain_table_needs_no_months_ahead(diary: Diary) -> None:
    result = diary.job("diary_archive_ahead")
    assert result.success
    assert {name: page["created"] for name, page in materialised(result).items()} == {"logs_ahead": 3, "notes_ahead": 0}


def test_a_month_that_stopped_is_told_until_it_goes_on(diary: Diary) -> None:
    """I123."""
    (diary.folder / "cold/logs").write_text("in the way")
    diary.month("2024-01")
    passed, severity, why = planned(diary)["nothing_stopped"]
    assert (passed, severity) == (False, "ERROR")
    assert "logs 2024-01 stopped at planned" in why
    assert "maintain archive run diary logs --month 2024-01" in why
    (diary.folder / "cold/logs").unlink()
    assert diary.month("2024-01").success
    assert planned(diary)["nothing_stopped"][0]


def test_a_file_that_is_gone_cut_or_a_stranger_is_told(diary: Diary) -> None:
    """C41, C38, V6."""
    leave(diary)
    passed, severity, why = planned(diary)["store_agrees"]
    assert (passed, severity) == (False, "WARN")
    assert "has not been listed yet" in why
    first, second = object_of(diary, "2024-01"), object_of(diary, "2024-02")
    whole = first.read_bytes()
    reconcile(diary.system, diary.home, folder=diary.folder)
    assert planned(diary)["store_agrees"][0]

    first.chmod(0o644)
    first.write_bytes(whole[:-20])
    second.unlink()
    stranger = first.with_name("part-000-0000000000000000.parquet")
    stranger.write_bytes(b"x")
    reconcile(diary.system, diary.home, folder=diary.folder)
    passed, severity, why = planned(diary)["store_agrees"]
    assert (passed, severity) == (False, "ERROR")
    assert f"{len(whole) - 20:,} bytes, {len(whole):,} were archived" in why
    assert f"{second.name} is not there" in why
    assert "1 object below" in why and stranger.name in why


def test_the_applications_catalogue_is_compared_entry_by_entry(diary: Diary) -> None:
    """S4-42, S4-53."""
    leave(diary)
    assert planned(diary)["catalogue_agrees"][0]
    execute(diary.url, "DELETE FROM public.log_files WHERE job = 'job 1' AND object LIKE 'logs/2024-01/%'")
    execute(diary.url, "INSERT INTO public.log_files VALUES ('x', 'job 1', 'logs/2023-01/part-000-ab.parquet', 1)")
    execute(diary.url, "INSERT INTO public.log_files VALUES ('y', 'job 1', 'elsewhere/of-somebody.parquet', 1)")
    passed, _, why = planned(diary)["catalogue_agrees"]
    assert not passed
    assert "6 times instead of 7" in why
    assert "logs/2023-01/part-000-ab.parquet, which is not in the archive" in why
    assert "elsewhere" not in why
    execute(diary.url, "DROP TABLE public.log_files")
    passed, severity, why = planned(diary)["catalogue_agrees"]
    assert (passed, severity) == (False, "WARN")
    assert "Not known" in why


def test_a_drill_reads_files_and_restores_a_month_and_leaves_nothing(diary: Diary) -> None:
    """V12, H114."""
    leave(diary)
    result = diary.job("diary_archive_drill")
    page = materialised(result)["logs_drill"]
    assert (page["files"], page["damaged"], page["restored_rows"]) == (2, 0, 100)
    assert "100 rows restored, the same text as before" in page["summary"]
    found = checks(result)
    assert found["logs_drill.files_intact"][0]
    assert found["logs_drill.restorable"][0]
    assert "Nothing is archived yet" in materialised(result)["notes_drill"]["summary"]
    left = rows(diary.url, "SELECT relname FROM pg_class WHERE relname LIKE 'drill%'")
    assert left == []
    assert list((diary.folder / "home/spool").iterdir()) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_drill_finds_damage(diary: Diary, damage: str) -> None:
    """C38, C39, C41."""
    leave(diary)
    for label in ("2024-01", "2024-02"):
        file = object_of(diary, label)
        data = bytearray(file.read_bytes())
        file.chmod(0o644)
        if damage == "flipped":
            data[len(data) // 2] ^= 1
        file.write_bytes(data[:-20] if damage == "cut" else data)
        if damage == "gone":
            file.unlink()
    result = diary.job("diary_archive_drill")
    assert result.success  # what is wrong is a result, not a failure
    found = checks(result)
    assert found["logs_drill.files_intact"][:2] == (False, "ERROR")
    assert "logs 2024-01" in found["logs_drill.files_intact"][2]
    assert found["logs_drill.restorable"][:2] == (False, "ERROR")
    assert materialised(result)["logs_drill"]["damaged"] == 2


def diary_database(diary: Diary) -> ArchiveDatabase:
    return open_archive_database(diary.url)


def part_of(diary: Diary, lower: datetime) -> str:
    return next(one.name for one in read(diary_database(diary)).partitions if one.lower == lower)
