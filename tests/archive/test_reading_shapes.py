"""Months written with other columns read as one table; what is another type stays apart."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance_defs.archive.reading import dataset, get, query
from maintenance_defs.archive.reading.shapes import Field, shape
from maintenance_defs.core.errors import Refused
from tests.archive.reading_world import World


def fields(**types: pa.DataType) -> list[Field]:
    return [Field(name, kind) for name, kind in types.items()]


def table(world: World, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = query(world.home, [world.system], sql).read_all().to_pylist()
    return found


def evolve(world: World) -> None:
    """Each month's partition leaves with the columns of its time; the table goes on changing (H106)."""
    world.execute(
        "ALTER TABLE execution_log ADD COLUMN steps integer, ADD COLUMN cost numeric(5,2), ADD COLUMN rate real",
        "CREATE TYPE mood AS ENUM ('calm')", "ALTER TABLE execution_log ADD COLUMN mood mood",
        "UPDATE execution_log SET steps = 7, cost = 123.45, rate = 0.5, mood = 'calm' WHERE id IN ('log-05', 'log-06')",
    )  # fmt: skip
    world.leave("2024-11")
    world.execute(
        "ALTER TABLE execution_log ALTER COLUMN steps TYPE bigint, ALTER COLUMN cost TYPE numeric(12,4), "
        "ALTER COLUMN rate TYPE double precision, ADD COLUMN added text",
        "ALTER TYPE mood ADD VALUE 'cross'",
        "UPDATE execution_log SET steps = 5000000000, cost = 12345678.1234, rate = 0.1, mood = 'cross', added = 'x' "
        "WHERE id = 'log-07'",
    )
    world.leave("2025-08")


def test_columns_added_and_widened_are_one_view_with_stable_types_in_any_order_of_files(world: World) -> None:  # H106
    evolve(world)
    sql = "SELECT id, steps, cost, rate, mood, added FROM execution_log ORDER BY id"
    assert table(world, sql) == [
        {"id": "log-05", "steps": 7, "cost": Decimal("123.4500"), "rate": 0.5, "mood": "calm", "added": None},
        {"id": "log-07", "steps": 5_000_000_000, "cost": Decimal("12345678.1234"), "rate": 0.1, "mood": "cross",
         "added": "x"},
    ]  # fmt: skip
    whole = table(world, "SELECT * FROM execution_log_all ORDER BY id")
    assert [row["id"] for row in whole] == [f"log-{n:02}" for n in range(1, 10)]
    assert {row["id"]: row["steps"] for row in whole if row["steps"]} == {"log-05": 7, "log-06": 7, "log-07": 5 * 10**9}
    data = dataset(world.home, world.system, "execution_log")
    assert data.schema.field("steps").type == pa.int64()
    assert data.schema.field("cost").type == pa.decimal128(12, 4)
    assert sorted(data.to_table(columns=["cost"])["cost"].to_pylist()) == [
        Decimal("123.4500"),
        Decimal("12345678.1234"),
    ]
    one = get(world.system, "execution_log", world.home, value="job-0002").read_all()
    assert one["steps"].to_pylist() == [7, 7]
    assert one.schema.field("steps").type == pa.int64()


def test_a_type_that_became_another_is_never_mixed_in_silence(world: World) -> None:  # H106, §11
    world.execute("ALTER TABLE execution_log ADD COLUMN code integer", "UPDATE execution_log SET code = 42")
    world.leave("2024-11")
    world.execute("ALTER TABLE execution_log ALTER COLUMN code TYPE text USING 'E' || code")
    world.leave("2025-08")
    sql = "SELECT id, code, code__v1 FROM execution_log ORDER BY id"
    assert table(world, sql) == [
        {"id": "log-05", "code": None, "code__v1": 42}, {"id": "log-07", "code": "E42", "code__v1": None},
    ]  # fmt: skip
    found = get(world.system, "execution_log", world.home, value="job-0002").read_all()
    assert found.select(["id", "code", "code__v1"]).to_pylist() == [
        {"id": "log-05", "code": None, "code__v1": 42}, {"id": "log-06", "code": "E42", "code__v1": None},
    ]  # fmt: skip
    with pytest.raises(Refused, match="another type or meaning since version 1"):
        dataset(world.home, world.system, "execution_log")


def test_a_column_that_was_dropped_and_came_again_is_another_one(world: World) -> None:  # H108
    world.execute("ALTER TABLE execution_log ADD COLUMN note text", "UPDATE execution_log SET note = 'old meaning'")
    world.leave("2024-11")
    world.execute("ALTER TABLE execution_log DROP COLUMN note")
    world.leave("2025-08")
    world.execute("ALTER TABLE execution_log ADD COLUMN note text", "ALTER TABLE execution_log ADD COLUMN more int")
    world.execute("UPDATE execution_log SET note = 'new meaning'")
    world.leave("2025-09")
    sql = "SELECT id, note, note__v1 FROM execution_log ORDER BY id"
    assert table(world, sql) == [
        {"id": "log-05", "note": None, "note__v1": "old meaning"}, {"id": "log-07", "note": None, "note__v1": None},
        {"id": "log-08", "note": "new meaning", "note__v1": None},
    ]  # fmt: skip


def test_names_that_differ_in_case_only_and_odd_ones_are_kept_apart(world: World) -> None:  # B34
    world.execute(
        'ALTER TABLE execution_log ADD COLUMN "A" int, ADD COLUMN a int, ADD COLUMN "a b" int',
        'ALTER TABLE execution_log ADD COLUMN "q""uote" int',
        'UPDATE execution_log SET "A" = 1, a = 2, "a b" = 3, "q""uote" = 4',
    )
    world.leave("2024-11")
    for view in ("execution_log", "execution_log_all"):
        found = table(world, f"""SELECT "A", a_, "a b", "q""uote" FROM {view} WHERE id = 'log-05' AND a_ = 2""")
        assert found == [{"A": 1, "a_": 2, "a b": 3, 'q"uote': 4}]


def test_infinite_times_of_hot_rows_keep_their_companion(world: World) -> None:  # B20
    world.execute(
        "ALTER TABLE execution_log ADD COLUMN until timestamptz", "UPDATE execution_log SET until = 'infinity'",
        "CREATE TABLE execution_log_rest PARTITION OF execution_log DEFAULT",
        "INSERT INTO execution_log VALUES ('log-99', 'job-0001', 'info', '', NULL, 'infinity')",
    )  # fmt: skip
    world.catalogue("2024-11")
    sql = """SELECT id, until__special, "timestamp", timestamp__special FROM execution_log_all
        WHERE id IN ('log-05', 'log-99') ORDER BY id"""
    found = table(world, sql)
    assert [(row["id"], row["until__special"], row["timestamp__special"]) for row in found] == [
        ("log-05", "infinity", None), ("log-99", None, "infinity"),
    ]  # fmt: skip
    assert found[1]["timestamp"] is None


WIDER = [
    (pa.int16(), pa.int64(), pa.int64()), (pa.int32(), pa.float64(), pa.float64()),
    (pa.float32(), pa.float64(), pa.float64()), (pa.int32(), pa.decimal128(5, 2), pa.decimal128(12, 2)),
    (pa.decimal128(5, 2), pa.decimal128(12, 4), pa.decimal128(12, 4)),
    (pa.list_(pa.int32()), pa.list_(pa.int64()), pa.list_(pa.int64())),
]  # fmt: skip
APART = [
    (pa.int32(), pa.string()), (pa.int64(), pa.float64()), (pa.decimal128(38, 0), pa.decimal128(38, 38)),
    (pa.uuid(), pa.string()), (pa.timestamp("us"), pa.timestamp("us", tz="UTC")), (pa.date32(), pa.timestamp("us")),
    (pa.bool_(), pa.int32()), (pa.decimal128(5, 2), pa.float64()),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "both"), WIDER, ids=str)
def test_what_loses_nothing_is_widened_whichever_came_first(
    one: pa.DataType, other: pa.DataType, both: pa.DataType
) -> None:
    for first, second in permutations((one, other)):
        assert shape({1: fields(c=first), 2: fields(c=second)}).schema == pa.schema([("c", both)])


@pytest.mark.parametrize(("one", "other"), APART, ids=str)
def test_what_would_lose_something_stays_apart(one: pa.DataType, other: pa.DataType) -> None:  # V3
    for first, second in permutations((one, other)):
        found = shape({1: fields(c=first), 2: fields(c=second)})
        assert found.schema == pa.schema([("c", second), ("c__v1", first)])


def test_numbers_kept_as_text_are_not_mixed_with_text() -> None:
    number = [Field("c", pa.string(), number=True)]
    assert shape({1: number, 2: fields(c=pa.string())}).schema.names == ["c", "c__v1"]


KINDS = [pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.decimal128(9, 3), pa.uuid()]


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from(KINDS)), min_size=1, max_size=6))
def test_every_field_of_every_version_has_exactly_one_column(versions: list[dict[str, pa.DataType]]) -> None:
    listed = {n: fields(**columns) for n, columns in enumerate(versions, 1)}
    found = shape(listed)
    assert len(set(found.schema.names)) == len(found.schema.names)
    for version, columns in listed.items():
        stood = [source.field for source in found.versions[version] if source.field is not None]
        assert sorted(stood) == sorted(field.name for field in columns)
