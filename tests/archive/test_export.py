"""Which rows go into which file, in which order, and what the file says about them."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maintenance_defs.archive.rows import export as export_module
from maintenance_defs.archive.rows import writing
from maintenance_defs.archive.rows.columns import columns_of
from maintenance_defs.archive.rows.digest import fingerprint, source_groups
from maintenance_defs.archive.rows.export import export
from maintenance_defs.archive.rows.indexing import write_index
from maintenance_defs.archive.rows.kept import read_groups
from maintenance_defs.archive.rows.part import ALL, UNKNOWN, Join
from maintenance_defs.core.errors import Refused, RowSecurity
from tests.archive.rounds import archive, ask, seen
from tests.support.postgres import execute

JANUARY, FEBRUARY = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
LOG = [
    "CREATE TABLE jobs (id int PRIMARY KEY, org text)",
    "INSERT INTO jobs VALUES (1, 'acme'), (2, 'zeta'), (3, NULL), (4, 'acme')",
    "CREATE TABLE log (id int PRIMARY KEY, job_id int, at timestamptz NOT NULL, line text)",
    "INSERT INTO log SELECT g, g % 6, timestamptz '2024-01-01 00:00Z' + g * interval '1 hour', 'line ' || g "
    "FROM generate_series(0, 599) g",
]  # jobs 0 and 5 are gone
BY_JOB = Join("public", "jobs", (("job_id", "id"),), "org", "org")


def rows_of(path: Path, columns: str = "*") -> list[tuple[object, ...]]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        return con.execute(f"SELECT {columns} FROM read_parquet('{path}', file_row_number = true)").fetchall()


def test_each_row_is_in_exactly_one_file_of_its_organisations_label(pg_database: str, tmp_path: Path) -> None:
    """G90: rows whose job is gone or has no organisation are of the unknown one, and counted."""
    execute(pg_database, *LOG)
    scopes = {"acme": "r365", "zeta": "r30", UNKNOWN: "forever"}
    found = archive(pg_database, "log", tmp_path, organisation=BY_JOB, scopes=scopes, sort=["job_id", "at"])
    assert {name: group.rows for name, group in found.groups.items()} == {"acme": 200, "zeta": 100, UNKNOWN: 300}
    assert [(file.label, file.rows) for file in found.files] == [("forever", 300), ("r30", 100), ("r365", 200)]
    for file in found.files:
        assert scopes[next(iter(file.organisations))] == file.label
        listed = rows_of(file.path, "job_id, id")
        assert listed == sorted(listed)
    everything = [row[0] for file in found.files for row in rows_of(file.path, "id")]
    assert sorted(everything) == list(range(600))
    assert {row for file in found.files for row in rows_of(file.path, "job_id, org")} == {
        (0, None), (1, "acme"), (2, "zeta"), (3, None), (4, "acme"), (5, None)
    }  # fmt: skip


def test_rows_of_organisations_without_a_scope_are_not_exported(pg_database: str, tmp_path: Path) -> None:
    execute(pg_database, *LOG)
    with seen(pg_database, "log", organisation=BY_JOB) as s:
        files = export(s.snapshot, s.part, s.columns, {"zeta": "one", "nobody": "two"}, tmp_path)
    assert [(file.label, list(file.organisations), file.rows) for file in files] == [("one", ["zeta"], 100)]


def test_one_label_may_hold_several_organisations_each_counted(pg_database: str, tmp_path: Path) -> None:
    execute(pg_database, *LOG)
    found = archive(pg_database, "log", tmp_path, organisation=BY_JOB)
    (file,) = found.files
    assert read_groups(file.path) == found.groups
    assert {name: counted.rows for name, counted in file.organisations.items()} == {
        "acme": 200,
        "zeta": 100,
        UNKNOWN: 300,
    }
    acme = file.organisations["acme"]
    assert acme.min_at == datetime(2024, 1, 1, 1, tzinfo=UTC)
    assert acme.max_at == datetime(2024, 1, 25, 22, tzinfo=UTC)


def test_organisation_of_an_own_column_is_its_text(pg_database: str, tmp_path: Path) -> None:
    execute(
        pg_database,
        "CREATE TABLE log (at timestamptz, org uuid)",
        "INSERT INTO log VALUES (now(), 'A0000000-0000-4000-8000-000000000001'), (now(), NULL)",
    )
    found = archive(pg_database, "log", tmp_path, organisation="org")
    assert set(found.groups) == {"a0000000-0000-4000-8000-000000000001", UNKNOWN}
    assert found.files[0].schema.names == ["at", "at__special", "org"]


def with_icu(url: str, statement: str) -> None:
    """Run a statement, or skip where the server sorts by bytes only."""
    try:
        execute(url, statement)
    except psycopg2.Error as error:
        pytest.skip(f"this server has no ICU collations: {str(error).splitlines()[0]}; ./maintain test --pg system")


def test_organisations_that_a_collation_finds_equal_stay_two(pg_database: str, tmp_path: Path) -> None:
    with_icu(pg_database, "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    execute(
        pg_database,
        "CREATE TABLE log (at timestamptz, org text COLLATE blind)",
        "INSERT INTO log VALUES (now(), 'acme'), (now(), 'ACME')",
    )
    found = archive(pg_database, "log", tmp_path, organisation="org", scopes={"acme": "a", "ACME": "b"})
    assert [(file.label, file.rows) for file in found.files] == [("a", 1), ("b", 1)]


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE jobs (id int, org text)"],
        ["CREATE TABLE jobs (id int, org text)", "CREATE UNIQUE INDEX ON jobs (id) WHERE org IS NOT NULL"],
        ["CREATE TABLE jobs (id int, org text, part int)", "CREATE UNIQUE INDEX ON jobs (id, part)"],
        ["CREATE TABLE jobs (id int, org text)", "CREATE UNIQUE INDEX ON jobs (abs(id))"],
        ["CREATE TABLE jobs (id int PRIMARY KEY, org text)", "CREATE TABLE more () INHERITS (jobs)"],
    ],
    ids=["no index", "partial", "one column more", "expression", "children"],
)
def test_join_that_could_multiply_rows_is_refused(pg_database: str, tmp_path: Path, statements: list[str]) -> None:
    execute(pg_database, *statements, "CREATE TABLE log (at timestamptz, job_id int)")
    with seen(pg_database, "log", organisation=BY_JOB) as s:
        for read in (
            lambda: source_groups(s.snapshot, s.part, s.columns),
            lambda: export(s.snapshot, s.part, s.columns, {"acme": "a"}, tmp_path),
        ):
            with pytest.raises(Refused, match="unique index") as caught:
                read()
            assert caught.value.reason == "join_multiplies"


def test_unique_index_that_carries_another_column_along_is_enough(pg_database: str, tmp_path: Path) -> None:
    execute(
        pg_database,
        "CREATE TABLE jobs (id int, org text)",
        "CREATE UNIQUE INDEX ON jobs (id) INCLUDE (org)",
        "CREATE TABLE log (at timestamptz, job_id int)",
        "INSERT INTO log VALUES (now(), 1)",
    )
    assert archive(pg_database, "log", tmp_path, organisation=BY_JOB).fingerprint.rows == 1


def test_stored_organisation_may_not_take_a_columns_name(pg_database: str, tmp_path: Path) -> None:
    execute(pg_database, *LOG, "ALTER TABLE log ADD org int")
    with seen(pg_database, "log", organisation=BY_JOB) as s, pytest.raises(Refused, match="'org'"):
        export(s.snapshot, s.part, s.columns, {"acme": "a"}, tmp_path)


def test_bounds_are_half_open_for_every_kind_of_time(pg_database: str, tmp_path: Path) -> None:
    """E72."""
    execute(
        pg_database,
        "CREATE TABLE log (n int, at timestamptz, local timestamp, day date)",
        "INSERT INTO log SELECT n, t AT TIME ZONE 'UTC', t, t::date FROM (VALUES "
        "(1, timestamp '2023-12-31 23:59:59.999999'), (2, timestamp '2024-01-01'), "
        "(3, timestamp '2024-01-31 23:59:59.999999'), (4, timestamp '2024-02-01')) v (n, t)",
        "INSERT INTO log VALUES (5, 'infinity', '-infinity', 'infinity'), (6, NULL, NULL, NULL)",
    )
    for n, column in enumerate(["at", "local", "day"]):
        found = archive(pg_database, "log", tmp_path / str(n), column, lower=JANUARY, upper=FEBRUARY)
        assert sorted(row[0] for row in rows_of(found.paths[0], "n")) == [2, 3]
        group = found.groups[ALL]
        assert group.min_at == JANUARY
        last = datetime(2024, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
        assert group.max_at == (last if column != "day" else datetime(2024, 1, 31, tzinfo=UTC))
        # within bounds nothing is infinite: no companion is needed
        assert f"{column}__special" not in found.files[0].schema.names


def test_bound_within_a_day_is_refused_for_dates(pg_database: str) -> None:
    execute(pg_database, "CREATE TABLE log (day date)")
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    with seen(pg_database, "log", "day", lower=noon) as s, pytest.raises(Refused, match="12:00"):
        source_groups(s.snapshot, s.part, s.columns)


def test_times_that_python_cannot_hold_leave_the_limits_unknown(pg_database: str, tmp_path: Path) -> None:
    execute(
        pg_database,
        "CREATE TABLE log (at timestamptz, org text)",
        "INSERT INTO log VALUES ('infinity', 'a'), (now(), 'a'), ('10000-01-01', 'b'), (NULL, 'c'), (now(), 'd')",
    )
    groups = archive(pg_database, "log", tmp_path, organisation="org").groups
    assert {name for name, group in groups.items() if group.min_at is None and group.max_at is None} == {"a", "b", "c"}
    assert groups["d"].min_at is not None


def test_empty_month_gives_no_file_and_a_known_zero(pg_database: str, tmp_path: Path) -> None:
    """A09."""
    execute(pg_database, *LOG)
    found = archive(pg_database, "log", tmp_path, lower=datetime(2025, 1, 1, tzinfo=UTC))
    assert (found.files, found.groups, found.fingerprint.rows) == ([], {}, 0)
    assert list(tmp_path.iterdir()) == []


def test_rows_of_grandchildren_are_included(pg_database: str, tmp_path: Path) -> None:
    """A14: a child that is partitioned itself."""
    execute(
        pg_database,
        "CREATE TABLE log (id int, at timestamptz NOT NULL, kind text) PARTITION BY RANGE (at)",
        "CREATE TABLE log_2024_01 PARTITION OF log FOR VALUES FROM ('2024-01-01 00:00Z') TO ('2024-02-01 00:00Z') "
        "PARTITION BY LIST (kind)",
        "CREATE TABLE log_a PARTITION OF log_2024_01 FOR VALUES IN ('a')",
        "CREATE TABLE log_rest PARTITION OF log_2024_01 DEFAULT",
        "INSERT INTO log VALUES (1, '2024-01-05 00:00Z', 'a'), (2, '2024-01-06 00:00Z', 'b')",
    )
    found = archive(pg_database, "log_2024_01", tmp_path, lower=JANUARY, upper=FEBRUARY)
    assert sorted(row[0] for row in rows_of(found.paths[0], "id")) == [1, 2]


def test_row_security_is_refused_by_name(pg_database: str, tmp_path: Path) -> None:
    """A10: never one row of three."""
    role = "owner_" + pg_database.rsplit("/", 1)[1]
    execute(
        pg_database,
        f"CREATE ROLE {role} LOGIN PASSWORD 'owner'",
        *LOG,
        f"ALTER TABLE log OWNER TO {role}",
        "ALTER TABLE log ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE log FORCE ROW LEVEL SECURITY",
        "CREATE POLICY one ON log USING (id = 1)",
    )
    place = pg_database.rsplit("@", 1)[1]
    try:
        with seen(f"postgresql+psycopg2://{role}:owner@{place}", "log") as s:
            for read in (
                lambda: source_groups(s.snapshot, s.part, s.columns),
                lambda: fingerprint(s.snapshot, s.part, s.columns),
                lambda: export(s.snapshot, s.part, s.columns, {ALL: "all"}, tmp_path),
            ):
                with pytest.raises(RowSecurity, match="log"):
                    read()
        assert list(tmp_path.iterdir()) == []
    finally:
        execute(pg_database, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_row_groups_have_the_declared_rows_not_the_drivers(
    pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A17: also where the driver's batches are smaller and cut across."""
    monkeypatch.setattr(export_module, "BATCH_BYTES", 10_000)
    execute(
        pg_database,
        *LOG,
        "INSERT INTO log SELECT g, 7, '2024-03-01', repeat('x', 100) FROM generate_series(600, 4999) g",
    )
    found = archive(pg_database, "log", tmp_path, row_group_rows=2000, sort=["job_id", "id"])
    metadata = pq.read_metadata(found.paths[0])
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [2000, 2000, 1000]
    assert found.files[0].row_groups == 3
    assert metadata.row_group(0).sorting_columns
    assert metadata.row_group(0).column(0).has_column_index
    assert metadata.format_version == "2.6"


def test_large_rows_close_a_row_group_early(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A17: the bound on memory is in bytes."""
    monkeypatch.setattr(writing, "GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(export_module, "BATCH_BYTES", 1 << 18)
    execute(
        pg_database,
        "CREATE TABLE log (id int, at timestamptz, line text)",
        "INSERT INTO log SELECT g, now(), repeat(md5(g::text), 4096) FROM generate_series(1, 80) g",
    )
    found = archive(pg_database, "log", tmp_path, sort=["id"])
    assert found.files[0].row_groups > 5
    write_index(found.paths[0], "id", tmp_path / "index.parquet")
    places = rows_of(tmp_path / "index.parquet", "value, first_group, last_group")
    metadata, start = pq.read_metadata(found.paths[0]), 0
    group_of = {}
    for n in range(metadata.num_row_groups):
        for row in range(start, start + metadata.row_group(n).num_rows):
            group_of[str(row + 1)] = n
        start += metadata.row_group(n).num_rows
    assert {value: (first, last) for value, first, last in places} == {v: (n, n) for v, n in group_of.items()}


def test_large_exports_are_cut_into_several_files(
    pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One organisation may be spread over files; together they are its rows."""
    monkeypatch.setattr(writing, "FILE_BYTES", 50_000)
    execute(
        pg_database,
        "CREATE TABLE log (id int, at timestamptz, org text, line text)",
        "INSERT INTO log SELECT g, now(), 'o' || (g % 2), md5(g::text) || md5((-g)::text) "
        "FROM generate_series(1, 9000) g",
    )
    found = archive(pg_database, "log", tmp_path, organisation="org", row_group_rows=1000, sort=["id"])
    assert len(found.files) > 3
    assert {file.label for file in found.files} == {"all"}
    assert sum(file.rows for file in found.files) == 9000
    assert len({file.path for file in found.files}) == len(found.files)


@pytest.mark.parametrize(("codec", "level"), [("zstd", None), ("zstd", 9), ("gzip", None), ("snappy", None)])
def test_every_codec_is_the_one_in_the_file(pg_database: str, tmp_path: Path, codec: str, level: int | None) -> None:
    execute(pg_database, *LOG)
    found = archive(pg_database, "log", tmp_path, codec=codec, level=level)
    assert pq.read_metadata(found.paths[0]).row_group(0).column(0).compression == codec.upper()


def test_unknown_codec_is_refused_with_the_known_ones(pg_database: str, tmp_path: Path) -> None:
    execute(pg_database, *LOG)
    with seen(pg_database, "log") as s, pytest.raises(Refused, match="Known: zstd, gzip, snappy"):
        export(s.snapshot, s.part, s.columns, {ALL: "all"}, tmp_path, codec="lzo")


def test_text_is_sorted_by_its_bytes_whatever_the_collation(pg_database: str, tmp_path: Path) -> None:
    """What the file says about its order and what readers skip by is the order of bytes."""
    with_icu(pg_database, 'CREATE TABLE log (at timestamptz, k text COLLATE "en-x-icu")')
    execute(
        pg_database,
        "INSERT INTO log SELECT now(), unnest(ARRAY['b', 'A', 'a', 'B', 'é', 'z', '_'])",
    )
    found = archive(pg_database, "log", tmp_path, sort=["k"])
    keys = [row[0] for row in rows_of(found.paths[0], "k")]
    assert keys == sorted(keys, key=lambda key: key.encode())


def test_file_describes_itself(pg_database: str, tmp_path: Path) -> None:
    execute(pg_database, *LOG)
    found = archive(pg_database, "log", tmp_path, metadata={"unit": "u-1"}, organisation=BY_JOB)
    schema = pq.read_schema(found.paths[0])
    assert schema.metadata[b"unit"] == b"u-1"
    assert schema.metadata[b"maintenance:organisation"] == b"org"
    assert columns_of(schema) == found.columns
    assert schema.field("at").metadata[b"POSTGRESQL:type"] == b"timestamp with time zone"
    assert schema.field("org").metadata[b"maintenance:joined"] == b"public.jobs.org"


def test_texts_show_none_of_their_values_in_the_footer(pg_database: str, tmp_path: Path) -> None:
    """G105: least and greatest value are values."""
    execute(pg_database, *LOG)
    found = archive(pg_database, "log", tmp_path, sort=["job_id"])
    metadata = pq.read_metadata(found.paths[0])
    shown = {
        metadata.row_group(0).column(n).path_in_schema
        for n in range(metadata.num_columns)
        if metadata.row_group(0).column(n).is_stats_set
    }
    assert shown == {"id", "job_id", "at"}


def test_index_names_the_row_groups_of_each_value(pg_database: str, tmp_path: Path) -> None:
    """H111: one job's rows are found without reading the rest."""
    execute(pg_database, *LOG, "INSERT INTO log VALUES (1000, NULL, '2024-01-01 00:00Z', 'nobody')")
    found = archive(pg_database, "log", tmp_path, organisation=BY_JOB, sort=["job_id", "at"], row_group_rows=150)
    (file,) = found.files
    write_index(file.path, "job_id", tmp_path / "index.parquet")
    entries = rows_of(
        tmp_path / "index.parquet", "value, organisation, rows, first_group, last_group, first_at::VARCHAR"
    )
    assert len(entries) == 6
    for value, organisation, rows, first, last, first_at in entries:
        parquet = pq.ParquetFile(file.path)
        within = parquet.read_row_groups(list(range(first, last + 1)))
        mine = within.filter(pa.compute.equal(within["job_id"], int(value)))
        assert (mine.num_rows, rows) == (100, 100)
        assert set(mine["org"].to_pylist()) == {None if organisation == UNKNOWN else organisation}
        assert str(pa.compute.min(mine["at"]).as_py()) == f"{first_at}:00"
        for other in set(range(parquet.num_row_groups)) - set(range(first, last + 1)):
            assert int(value) not in parquet.read_row_group(other, ["job_id"])["job_id"].to_pylist()


def test_row_ids_hold_each_rows_key_and_hash_in_the_files_order(pg_database: str, tmp_path: Path) -> None:
    execute(pg_database, *LOG)
    found = archive(pg_database, "log", tmp_path, row_ids=["id"], sort=["job_id", "id"], organisation=BY_JOB,
                    scopes={"acme": "a", "zeta": "b", UNKNOWN: "c"})  # fmt: skip
    hashes = dict(ask(pg_database, "SET TimeZone = 'UTC'; SELECT id::text, hashtextextended(l::text, 0) FROM log l"))
    for file in found.files:
        assert file.row_ids is not None
        assert file.row_ids.rows == file.rows
        kept = pq.read_table(file.row_ids.path)
        assert kept["id"].to_pylist() == [str(row[0]) for row in rows_of(file.path, "id")]
        assert all(
            hashes[key] == value for key, value in zip(*(kept[n].to_pylist() for n in kept.column_names), strict=True)
        )
