"""A file written again keeps everything of the rows that stay, or there is no new file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maintenance_defs.archive.rows import rewriting
from maintenance_defs.archive.rows.kept import read_groups
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.archive.rows.rewriting import Rewritten, rewrite
from maintenance_defs.archive.rows.writing import Roller, sha256
from maintenance_defs.control.archive import FileRow, Group
from maintenance_defs.core.errors import Mismatch
from tests.archive.world import LogWorld
from tests.support.postgres import execute as run

Again = Callable[..., Rewritten]


@pytest.fixture
def world(tmp_path: Path, pg_database: str) -> LogWorld:
    made = LogWorld(tmp_path, pg_database, archive={"codec": "gzip", "row_group_rows": 1000})
    made.archived()
    return made


@pytest.fixture
def old(world: LogWorld) -> FileRow:
    return world.files()[0]


@pytest.fixture
def kept(world: LogWorld, old: FileRow) -> KeptFile:
    return KeptFile(world.objects / old.key)


@pytest.fixture
def again(world: LogWorld, old: FileRow, kept: KeptFile) -> Again:
    def act(**more: Any) -> Rewritten:
        given = {"label": old.label, "groups": world.home.control.archive.groups([old.id]), "drop": ["a"]}
        return rewrite(kept, world.folder / "new", **given | more)

    return act


def new_files(world: LogWorld) -> list[Path]:
    return list((world.folder / "new").glob("*")) if (world.folder / "new").exists() else []


def test_what_stays_is_the_same_in_every_respect(world: LogWorld, kept: KeptFile, again: Again) -> None:  # G87
    done = again()
    assert done.written is not None
    assert (done.written.rows, done.left_out["a"].rows, set(done.left_out)) == (3000, 1000, {"a"})
    assert done.written.sha256 == sha256(done.written.path)
    one, two = kept.open(), KeptFile(done.written.path).open()
    assert two.schema_arrow.equals(one.schema_arrow, check_metadata=True)
    rest = one.read().filter(pa.compute.field("org").is_null() | (pa.compute.field("org") != "a"))
    assert two.read().equals(rest)  # in the same order
    first, second = one.metadata.row_group(0), two.metadata.row_group(0)
    assert second.sorting_columns == first.sorting_columns
    for place in range(first.num_columns):
        here, there = first.column(place), second.column(place)
        assert (there.compression, there.is_stats_set) == ("GZIP", here.is_stats_set), here.path_in_schema
        assert there.has_offset_index == here.has_offset_index
    assert [two.metadata.row_group(n).num_rows for n in range(two.metadata.num_row_groups)] == [1000, 1000, 1000]


def test_several_organisations_go_at_once_and_all_of_them_leave_no_file(world: LogWorld, again: Again) -> None:
    done = again(drop=["a", "c"])
    assert done.written is not None
    assert {name: group.rows for name, group in done.left_out.items()} == {"a": 1000, "c": 1000}
    assert set(done.written.organisations) == {"b", "__unknown__"}
    none = again(drop=["a", "b", "c", "__unknown__"])
    assert none.written is None
    assert sum(group.rows for group in none.left_out.values()) == 4000


def test_held_rows_stay_and_the_digest_of_the_rest_adds_up(again: Again, kept: KeptFile, world: LogWorld) -> None:
    # G93
    held = f"{kept.text('job')} = 'job-4'"
    done = again(held=held)
    assert done.written is not None
    assert done.written.organisations["a"].rows == 200
    assert done.left_out["a"].rows == 800
    stays = read_groups(done.written.path)["a"]
    both = stays + done.left_out["a"]
    assert (both.rows, both.hi, both.lo) == world.groups(world.files()[0])["a"]
    assert stays == read_groups(kept.path, where=f"({held})")["a"]


def test_nothing_goes_when_every_row_is_held(again: Again, old: FileRow) -> None:
    done = again(held="true")
    assert done.left_out == {}
    assert done.written is not None
    assert done.written.rows == old.rows


@pytest.mark.parametrize("lost", ["row", "value", "batch"])
def test_a_writer_that_loses_anything_is_found_out(
    world: LogWorld, again: Again, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:  # V1
    real = Roller.take
    seen = 0

    def take(self: Roller, batch: pa.RecordBatch) -> None:
        nonlocal seen
        seen += batch.num_rows > 0
        if batch.num_rows and seen == 2 and lost == "batch":
            return
        if batch.num_rows and seen == 2 and lost == "row":
            batch = batch.slice(1)
        if batch.num_rows and seen == 2 and lost == "value":
            arrays = batch.columns
            place = [n for n, array in enumerate(arrays) if pa.types.is_string(array.type)][2]  # the line
            arrays[place] = pa.array(["other", *arrays[place].to_pylist()[1:]], arrays[place].type)
            batch = pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
        real(self, batch)

    monkeypatch.setattr(Roller, "take", take)
    with pytest.raises(Mismatch, match="thrown away"):
        again()
    assert new_files(world) == []


def test_rows_that_go_although_nobody_asked_are_found_out(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:  # V8
    real = rewriting._staying

    def without_b(kept: KeptFile, names: list[str], drop: list[str], held: str) -> Iterator[pa.RecordBatch]:
        return real(kept, names, [*drop, "b"], held)

    monkeypatch.setattr(rewriting, "_staying", without_b)
    with pytest.raises(Mismatch, match="organisation 'b' had 1,000 rows, 0 stay and 0 were left out"):
        again()


def test_a_file_that_is_not_what_the_catalogue_says_is_not_written_again(
    world: LogWorld, again: Again, old: FileRow
) -> None:
    groups = world.home.control.archive.groups([old.id])
    other = [Group(g.file_id, g.organisation, g.rows, g.high ^ 1, g.low, None, None) for g in groups]
    with pytest.raises(Mismatch):
        again(groups=other)
    with pytest.raises(Mismatch, match="does not know of it"):
        again(groups=[group for group in groups if group.organisation != "b"])


def test_two_readers_that_see_other_rows_are_found_out(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    real = KeptFile.source

    def shuffled(self: KeptFile, con: Any, *, numbered: bool = False) -> str:
        found = real(self, con, numbered=numbered)
        return f"(SELECT * FROM {found} ORDER BY {rewriting.ROW} DESC)" if numbered else found

    monkeypatch.setattr(KeptFile, "source", shuffled)
    with pytest.raises(Mismatch, match="do not see the same rows"):
        again()


def test_an_encrypted_file_is_never_written_again_in_the_open(again: Again) -> None:  # V13
    with pytest.raises(ValueError, match="stays encrypted"):
        again(encryption=object())


def test_odd_columns_and_a_joined_organisation_survive(tmp_path: Path, pg_database: str) -> None:  # B34
    world = LogWorld(tmp_path, pg_database)
    run(
        pg_database,
        'ALTER TABLE logs ADD COLUMN "A" uuid DEFAULT gen_random_uuid(), ADD COLUMN a uuid DEFAULT gen_random_uuid(), '
        'ADD COLUMN "or""der" interval DEFAULT \'1 mon 2 days\', ADD COLUMN "Ünïcode" text[] DEFAULT \'{a,NULL,""}\', '
        "ADD COLUMN box numeric DEFAULT 'NaN', ADD COLUMN until timestamptz DEFAULT 'infinity', "
        "ADD COLUMN half real DEFAULT '-0'",
    )
    world.archived(400)
    (old,) = world.files()
    kept = KeptFile(world.objects / old.key)
    done = rewrite(
        kept, tmp_path / "new", label="all", groups=world.home.control.archive.groups([old.id]), drop=["a"]
    )  # fmt: skip
    assert done.written is not None
    whole = pq.read_table(kept.path, partitioning=None)
    rest = whole.filter(pa.compute.field("org").is_null() | (pa.compute.field("org") != "a"))
    assert pq.read_table(done.written.path, partitioning=None).equals(rest)
