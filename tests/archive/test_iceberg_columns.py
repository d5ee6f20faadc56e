"""Columns in the Iceberg table: every type, and months before and after the table changed; never a wrong value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from maintenance_defs.archive.iceberg.choosing import fitting
from maintenance_defs.archive.reading.shapes import Field
from maintenance_defs.core.errors import Refused
from tests.archive.iceberg_world import iceberg_world, ids, loaded, mine, published, read, stands
from tests.archive.world import COLD, LogWorld
from tests.support.postgres import execute as run

MAY = COLD.replace(month=5)
FEBRUARY = (
    "CREATE TABLE public.logs_2024_02 PARTITION OF public.logs FOR VALUES FROM ('2024-02-01Z') TO ('2024-03-01Z')"
)
INT, LONG, TEXT = pa.int32(), pa.int64(), pa.string()


def fields(**columns: pa.DataType) -> list[Field]:
    return [Field(name, kind) for name, kind in columns.items()]


@pytest.mark.parametrize(
    ("versions", "taken", "why"),
    [
        ({1: fields(a=INT), 2: fields(a=LONG)}, [1, 2], ""),
        ({1: fields(a=LONG), 2: fields(a=INT)}, [1, 2], ""),
        ({1: fields(a=INT), 2: fields(a=INT, b=TEXT), 3: fields(b=TEXT)}, [1, 2, 3], ""),
        ({1: fields(a=INT), 2: fields(a=TEXT)}, [2], "column a has another type or meaning since"),
        ({1: fields(a=INT), 2: fields(b=INT), 3: fields(a=INT)}, [2, 3], "another type or meaning"),
        ({1: fields(a=INT), 2: fields(a=pa.float64())}, [2], "do not cast to"),
        ({1: fields(a=pa.decimal128(5, 2)), 2: fields(a=pa.decimal128(12, 2))}, [1, 2], ""),
        ({1: fields(a=pa.decimal128(5, 2)), 2: fields(a=pa.decimal128(12, 4))}, [2], "do not cast to"),
        ({1: fields(a=pa.list_(INT)), 2: fields(a=pa.list_(LONG))}, [1, 2], ""),
        ({1: fields(a=pa.float32()), 2: fields(a=pa.float64())}, [1, 2], ""),
        ({1: [Field("a", TEXT, number=True)], 2: fields(a=TEXT)}, [2], "another type or meaning"),
    ],
)
def test_an_older_file_is_in_the_table_only_where_its_readers_can_read_it(
    versions: dict[int, list[Field]], taken: list[int], why: str
) -> None:  # H106, H108
    found, said = fitting(versions, list(versions))
    assert found == taken
    assert all(why in words for words in said.values())
    assert sorted([*found, *said]) == list(versions)


def test_a_column_that_was_dropped_is_not_the_one_that_came_later_though_no_file_lacks_it() -> None:
    versions = {1: fields(a=INT), 2: fields(b=INT), 3: fields(a=INT)}
    assert fitting(versions, [1, 3])[0] == [3]


@pytest.fixture
def made(tmp_path: Path, pg_database: str) -> LogWorld:
    world = iceberg_world(tmp_path, pg_database)
    run(world.url, FEBRUARY)
    return world


def fill(made: LogWorld, month: str, columns: str = "", values: str = "") -> None:
    run(
        made.url,
        f"INSERT INTO public.logs (id, at, org, job, line{columns}) SELECT n, '{month}-10Z', 'b', 'job', 'x'{values} "
        f"FROM generate_series(1, 20) n",
    )


def test_every_type_is_read_as_it_is_in_the_file(made: LogWorld) -> None:
    kinds = {
        "i2": "int2", "i4": "int4", "f4": "real", "f8": "float8", "u": "uuid", "d": "date", "t": "time",
        "ts": "timestamp", "tz": "timestamptz", "b": "bytea", "j": "json", "arr": "int[]", "txt": "text[]",
        "n": "numeric", "i": "interval",
        "net": "inet", "big": "numeric(38,10)", "yes": "boolean", '"a b"': "int", '"Ünï"': "text",
    }  # fmt: skip
    values = (
        "-32768, 7, 1.5, 'NaN', '11111111-2222-3333-4444-555555555555', 'infinity', '23:59:59.999999', "
        "'1969-12-31 23:00', '-infinity', '\\x00ff', '{\"a\":  1}', '{1,NULL,3}', '{a,NULL}', 1e60, '1 mon', "
        "'10.0.0.1/8', 1234567890.0123456789, true, 4, 'ż'"
    )
    run(made.url, *(f"ALTER TABLE public.logs ADD COLUMN {name} {kind}" for name, kind in kinds.items()))
    fill(made, "2024-01", ", " + ", ".join(kinds), ", " + values)
    assert made.apply(COLD).state == "done"
    assert stands(made).well
    found = read(made)
    theirs, ours = found["rows"][3], mine(made)[3]
    assert theirs | {"f8": None} == ours | {"f8": None}
    assert str(theirs["f8"]) == str(ours["f8"]) == "nan"
    assert (theirs["d"], theirs["d__special"], theirs["tz__special"]) == (None, "infinity", "-infinity")
    assert found["types"]["u"] in ("extension<arrow.uuid>", "fixed_size_binary[16]")


def test_columns_that_are_added_and_widened_are_one_table(made: LogWorld) -> None:  # H106
    fill(made, "2024-01", ", amount", ", 1.25")
    run(made.url, "ALTER TABLE public.logs ADD COLUMN n int, ADD COLUMN f real")
    run(made.url, "UPDATE public.logs SET n = 7, f = 1.5")
    made.apply(COLD)
    assert read(made)["rows"] == mine(made)
    changes = (
        "ALTER COLUMN n TYPE bigint", "ALTER COLUMN f TYPE float8", "ALTER COLUMN amount TYPE numeric(20,2)",
        "DROP COLUMN facts", "ADD COLUMN late text",
    )  # fmt: skip
    run(made.url, *(f"ALTER TABLE public.logs {change}" for change in changes))
    fill(made, "2024-02", ", n, f, amount, late", ", 5000000000 + n, 0.1, 123456789012345.25, 'new'")
    assert made.apply(MAY).state == "done"
    assert (stands(made).well, stands(made).files) == (True, 2)
    found = read(made)["rows"]
    assert len(found) == 40
    old, new = (row for row in found if row["id"] == 3)
    assert (old["n"], old["f"], old["amount"], old["late"]) == (7, 1.5, "1.25", None)
    assert (new["n"], new["f"], new["amount"], new["late"]) == (5000000003, 0.1, "123456789012345.25", "new")
    assert "facts" in old
    before = loaded(made).metadata_location
    published(made)
    assert loaded(made).metadata_location == before
    assert published(made, rebuild=True).files == 2
    assert read(made)["rows"] == found


def test_files_that_cannot_be_read_so_are_left_out_in_sight(made: LogWorld) -> None:  # H108
    run(made.url, "ALTER TABLE public.logs ADD COLUMN code int")
    fill(made, "2024-01", ", code", ", n")
    made.apply(COLD)
    assert [row["code"] for row in read(made)["rows"]] == list(range(1, 21))
    run(made.url, "ALTER TABLE public.logs ALTER COLUMN code TYPE text USING 'c' || code")
    fill(made, "2024-02", ", code", ", 'c' || n")
    made.apply(MAY)
    found = stands(made)
    (january,) = [file for file in made.files() if "2024-01" in file.key]
    assert (found.well, found.files, [one.file for one in found.left_out]) == (True, 1, [january])
    assert found.left_out[0].why == "column code has another type or meaning since"
    assert {row["code"] for row in read(made)["rows"]} == {f"c{n}" for n in range(1, 21)}


def test_a_file_of_several_months_is_in_the_table_without_its_partitions(made: LogWorld) -> None:
    fill(made, "2024-01")
    made.apply(COLD)
    assert [field.name for field in loaded(made).spec().fields] == ["at_month"]
    run(
        made.url, "DROP TABLE public.logs_2024_02",
        "CREATE TABLE public.logs_rest PARTITION OF public.logs FOR VALUES FROM ('2024-02-01Z') TO ('2024-04-01Z')",
    )  # fmt: skip
    fill(made, "2024-02")
    fill(made, "2024-03")
    made.apply(MAY.replace(month=6))
    assert stands(made).well
    assert loaded(made).spec().fields == ()
    assert len(ids(made)) == 60
    table = loaded(made)
    march = table.scan(row_filter="at >= '2024-03-01T00:00:00+00:00'")
    assert march.to_arrow().num_rows == 20
    assert len(list(march.plan_files())) == 1  # the other month is not opened


def test_columns_that_differ_in_letter_case_alone_are_refused(made: LogWorld) -> None:
    run(made.url, 'ALTER TABLE public.logs ADD COLUMN "Line" text')
    fill(made, "2024-01")
    made.apply(COLD)
    with pytest.raises(Refused, match="'line' and 'Line'"):
        published(made)


def test_only_metadata_of_the_table_can_be_reached_through_it(made: LogWorld) -> None:  # L14
    fill(made, "2024-01")
    made.apply(COLD)
    (file,) = made.files()
    before = made.stored_keys()
    from maintenance_defs.archive.iceberg.catalogs import opened
    from maintenance_defs.archive.iceberg.files import base_of
    from maintenance_defs.archive.reading.door import Door

    door = Door(made.system, "logs", made.home)
    declared: Any = door.archive.iceberg
    with opened(door, declared) as ours:
        table: Any = ours.table()
        assert table.properties["gc.enabled"] == "false"
        for location in (
            base_of(ours.place.store.reading) + file.key,
            f"{ours.place.location}/metadata/../../../{file.key}",
            f"{ours.place.location}/metadata/notes.txt",
            f"{ours.place.location}/data/a-name-that-is-longer.avro",
            f"{ours.place.location}/metadata/../../lake.other/metadata/x.avro",
        ):
            for way in (table.io.delete, table.io.new_output, table.io.new_input):
                with pytest.raises(Refused, match="nothing else is read or changed"):
                    way(location)
        with pytest.raises(Refused):
            ours.catalog.purge_table(ours.identifier)  # the metadata may be gone by now, the files are not
    assert file.key in made.stored_keys()
    assert set(before) - set(made.stored_keys()) <= {key for key in before if key.startswith("iceberg/")}
    published(made, rebuild=True)
    assert read(made)["rows"] == mine(made)
