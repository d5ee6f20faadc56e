"""Values that nobody thought of: archived, proven, restored, identical."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.archive.rounds import round_trip
from tests.support.postgres import connect, execute

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
BITS = st.integers(0, 2**64 - 1).map(lambda bits: f"\\x{bits:016x}")  # floats by their bits, NaN of every kind too
NUMERIC = st.one_of(
    st.sampled_from(["NaN", "Infinity", "-Infinity"]),
    st.tuples(st.integers(-(10**40), 10**40), st.integers(-60, 60)).map(lambda p: f"{p[0]}e{p[1]}"),
)
MICROS = st.integers(-211_813_488_000_000_000, 9_224_318_015_999_999_999)  # 4713 BC to 294276
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXT), lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8,
)  # fmt: skip
# column: (type, SQL with one marker, values)
COLUMNS: dict[str, tuple[str, str, st.SearchStrategy[Any]]] = {
    "t": ("text", "%s", TEXT),
    "c": ("char(12)", "%s", st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)),
    "i": ("int", "%s", st.integers(-(2**31), 2**31 - 1)),
    "b": ("bigint", "%s", st.integers(-(2**63), 2**63 - 1)),
    "f": ("float8", "%s", st.floats()),
    "g": ("float4", "%s::float4", st.floats(width=32)),
    "n": ("numeric", "%s::numeric", NUMERIC),
    "d": ("numeric(20,6)", "%s::numeric", st.just("NaN") | st.integers(-(10**19), 10**19).map(lambda n: f"{n}e-6")),
    "e": ("numeric(7,7)", "%s::numeric", st.integers(-(10**7) + 1, 10**7 - 1).map(lambda n: f"{n}e-7")),
    "z": ("timestamptz", "timestamptz '1970-01-01 00:00Z' + %s * interval '1 us'", st.integers(-(2**52), 2**52)),
    "x": ("bytea", "%s", st.binary(max_size=30)),
    "j": ("json", "%s", JSON.map(lambda value: json.dumps(value, indent=1, ensure_ascii=False))),
    "k": ("jsonb", "%s", JSON.map(json.dumps)),
    "u": ("uuid", "%s::uuid", st.uuids().map(str)),
    "v": ("interval", "%s * interval '1 us' + %s * interval '1 mon'",
          st.tuples(st.integers(-(2**60), 2**60), st.integers(-9999, 9999))),
    "l": ("text[]", "%s::text[]", st.lists(st.none() | TEXT, max_size=4)),
    "m": ("int[]", "%s::int[]", st.lists(st.none() | st.integers(-9, 9), max_size=4)),
    "r": ("numrange", "numrange(least(%s, %s), greatest(%s, %s))",
          st.tuples(*[st.integers(-99, 99)] * 2).map(lambda pair: pair * 2)),
    "o": ("oid", "%s::oid", st.integers(0, 2**32 - 1)),
    "y": ("bit varying(40)", "%s::bit varying", st.text("01", max_size=40)),
}  # fmt: skip
ROW = st.fixed_dictionaries({name: st.none() | values for name, (_, _, values) in COLUMNS.items()})


def check(url: str, folder: Path, rows: list[dict[str, Any]]) -> None:
    listed = ", ".join(f"{name} {kind}" for name, (kind, _, _) in COLUMNS.items())
    execute(url, "DROP TABLE IF EXISTS odd, shape, restored, plain", f"CREATE TABLE odd (at timestamptz, {listed})")
    with connect(url) as connection, connection.cursor() as cursor:
        for row in rows:
            names, marks, values = ["at"], ["%s"], [datetime(2024, 1, 1, tzinfo=UTC)]
            for name, value in row.items():
                if value is not None:
                    names.append(name)
                    marks.append(COLUMNS[name][1])
                    values.extend(value if isinstance(value, tuple) else [value])
            cursor.execute(f"INSERT INTO odd ({', '.join(names)}) VALUES ({', '.join(marks)})", values)
    round_trip(url, "odd", folder / uuid4().hex)


def seeded(examples: int) -> settings:
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=quiet)


@seeded(8)
@given(rows=st.lists(ROW, min_size=1, max_size=12))
def test_random_values_come_back_identical(pg_database: str, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """V3, V12, A19."""
    check(pg_database, tmp_path, rows)


@pytest.mark.long
@seeded(200)
@given(rows=st.lists(ROW, min_size=1, max_size=12))
def test_many_random_values_come_back_identical(pg_database: str, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    check(pg_database, tmp_path, rows)


def test_random_bits_of_floats_and_instants_come_back_identical(pg_database: str, tmp_path: Path) -> None:
    """B20, B32: made by the server from a seed, by their bits, over the whole range."""
    execute(
        pg_database,
        "SELECT setseed(0.42)",
        "CREATE TABLE odd AS SELECT timestamptz '2024-01-01 00:00Z' AS at, "
        "timestamptz '4713-01-01 00:00Z BC' + (random() * 9.2e18)::bigint * interval '1 us' AS z, "
        "date '4713-01-01 BC' + (random() * 2147483493)::int AS d, "
        "(random() * 86400000000)::bigint * interval '1 us' + time '00:00' AS t, "
        "(random() - 0.5) * 10 ^ ((random() - 0.5) * 600)::numeric AS n, "
        "((random() - 0.5) * 10 ^ ((random() - 0.5) * 600))::float8 AS f "
        "FROM generate_series(1, 3000)",
    )
    round_trip(pg_database, "odd", tmp_path)
