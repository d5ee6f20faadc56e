"""Nothing counts as archived unless the bytes that came back hold what the source holds."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from maintenance_defs.archive.rows.digest import row_text, source_groups
from maintenance_defs.archive.rows.kept import read_groups
from maintenance_defs.archive.rows.opened import KeptFile
from maintenance_defs.archive.rows.proof import differing_columns, prove, prove_file, total
from maintenance_defs.core.errors import Mismatch
from tests.archive.rounds import Archived, archive, ask, seen
from tests.support.postgres import execute


@pytest.fixture
def log(pg_database: str) -> str:
    execute(
        pg_database,
        "CREATE TABLE log (id int, at timestamptz, org text, line text)",
        "INSERT INTO log SELECT g, '2024-01-01 00:00Z', 'o' || g % 2, md5(g::text) FROM generate_series(1, 30000) g",
    )
    return pg_database


@pytest.fixture
def archived(log: str, tmp_path: Path) -> Archived:
    return archive(log, "log", tmp_path, organisation="org", row_group_rows=5000)


def damaged(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    other = path.with_name("fetched.parquet")
    other.write_bytes(data)
    return other


def test_file_that_came_back_whole_is_proven(log: str, archived: Archived) -> None:
    (file,) = archived.files
    proof = prove_file("log 2024-01", file.path, file)
    assert (proof.rows, proof.sha256) == (30_000, file.sha256)
    assert proof.organisations == archived.groups


def test_truncated_file_is_no_proof(archived: Archived) -> None:
    """C38."""
    (file,) = archived.files
    with pytest.raises(Mismatch, match=r"log 2024-01 came back from the store as other bytes.*kept where they are"):
        prove_file("log 2024-01", damaged(file.path, lambda data: data.__delitem__(slice(-20, None))), file)


def page_of(path: Path, group: int, column: str) -> int:
    """An offset in the middle of the data of one column."""
    metadata = pq.read_metadata(path)
    chunk = metadata.row_group(group).column(metadata.schema.to_arrow_schema().get_field_index(column))
    start: int = chunk.data_page_offset
    return start + int(chunk.total_compressed_size) // 2


def test_flipped_byte_in_a_page_is_no_proof_even_when_the_hash_is_believed(archived: Archived) -> None:
    """C39: statistics and counts are as before; the hash, the page's checksum or the digest tells."""
    (file,) = archived.files
    at = page_of(file.path, 2, "line")

    def flip(data: bytearray) -> None:
        data[at] ^= 1

    fetched = damaged(file.path, flip)
    with duckdb.connect() as con:  # what an equality of counts would have said
        assert con.execute(f"SELECT count(*) FROM '{fetched}'").fetchone() == (30_000,)
    with pytest.raises(Mismatch, match="other bytes"):
        prove_file("log 2024-01", fetched, file)
    believed = replace(file, sha256=hashlib.sha256(fetched.read_bytes()).hexdigest())
    with pytest.raises(Mismatch, match="cannot be read"):
        prove_file("log 2024-01", fetched, believed)


def test_value_that_was_changed_before_writing_is_no_proof(log: str, archived: Archived, tmp_path: Path) -> None:
    """C39: every checksum is right, the digest is not; the message names organisation, column and both numbers."""
    (file,) = archived.files
    table = pq.read_table(file.path)
    lines = table["line"].to_pylist()
    lines[12_345] = "0" + lines[12_345][1:] if not lines[12_345].startswith("0") else "1" + lines[12_345][1:]
    owner = table["org"][12_345].as_py()
    other = tmp_path / "other.parquet"
    place = table.schema.get_field_index("line")
    pq.write_table(table.set_column(place, table.schema.field("line"), [lines]), other)
    groups = read_groups(other)
    with seen(log, "log", organisation="org") as s:

        def culprits(organisation: str) -> list[str]:
            return differing_columns(s.snapshot, s.part, s.columns, [KeptFile(other)], organisation)

        with pytest.raises(Mismatch) as caught:
            prove("log 2024-01", source_groups(s.snapshot, s.part, s.columns), groups, s.columns, culprits)
    assert (caught.value.organisation, caught.value.column) == (owner, "line")
    assert f"organisation '{owner}'" in str(caught.value)
    assert "in column 'line'" in str(caught.value)
    assert f"{groups[owner].hi:016x}" in str(caught.value)


def test_missing_file_is_no_proof(archived: Archived, tmp_path: Path) -> None:
    (file,) = archived.files
    with pytest.raises(Mismatch, match="is not there"):
        prove_file("log 2024-01", tmp_path / "gone.parquet", file)


def test_file_of_another_unit_is_no_proof(log: str, archived: Archived, tmp_path: Path) -> None:
    (file,) = archived.files
    execute(log, "UPDATE log SET line = 'x' WHERE id = 1")
    (other,) = archive(log, "log", tmp_path / "other", organisation="org").files
    with pytest.raises(Mismatch, match="other bytes"):
        prove_file("log 2024-01", other.path, file)
    with pytest.raises(Mismatch, match="digest"):  # also where only the rows are looked at
        prove("log 2024-01", archived.groups, read_groups(other.path), archived.columns)


def test_unit_without_one_of_its_files_is_no_proof(log: str, tmp_path: Path) -> None:
    found = archive(log, "log", tmp_path, organisation="org", scopes={"o0": "a", "o1": "b"})
    proofs = [prove_file("log", file.path, file) for file in found.files]
    with pytest.raises(Mismatch, match=r"organisation 'o1', holds 0 rows, the source 15,000") as caught:
        prove("log 2024-01", found.groups, total(proofs[:1]), found.columns)
    assert (caught.value.archived, caught.value.source) == (0, 15_000)
    with pytest.raises(Mismatch, match="holds 30,000 rows, the source 15,000"):
        prove("log 2024-01", found.groups, total([*proofs, proofs[0]]), found.columns)


def test_rows_that_arrived_late_are_named_with_both_numbers(log: str, archived: Archived) -> None:
    """A01: counts differ."""
    execute(log, "INSERT INTO log VALUES (0, '2024-01-01 00:00Z', 'o0', 'late')")
    with seen(log, "log", organisation="org") as s, pytest.raises(Mismatch) as caught:
        prove("log 2024-01", source_groups(s.snapshot, s.part, s.columns), archived.groups, s.columns)
    assert str(caught.value) == (
        "archive of log 2024-01, organisation 'o0', holds 15,000 rows, the source 15,001. The rows were kept where "
        "they are. Rows arrived late: run the archive again."
    )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE log SET line = line || 'x' WHERE id = 7",
        "UPDATE log SET line = NULL WHERE id = 7",
        "UPDATE log SET line = '' WHERE id = 7",
        "UPDATE log SET id = id + 1 WHERE id IN (7)",
        "UPDATE log SET line = (SELECT line FROM log WHERE id = 9) WHERE id = 7",
    ],
)
def test_update_that_leaves_the_count_is_noticed(log: str, archived: Archived, change: str) -> None:
    """A02, A03."""
    execute(log, change)
    with seen(log, "log", organisation="org") as s, pytest.raises(Mismatch):
        prove("log 2024-01", source_groups(s.snapshot, s.part, s.columns), archived.groups, s.columns)


def test_two_values_that_change_places_are_noticed(log: str, archived: Archived) -> None:
    """A column by column digest would not."""
    execute(log, "UPDATE log SET line = CASE id WHEN 7 THEN (SELECT line FROM log WHERE id = 9) "
                 "ELSE (SELECT line FROM log WHERE id = 7) END WHERE id IN (7, 9)")  # fmt: skip
    with seen(log, "log", organisation="org") as s, pytest.raises(Mismatch, match="other values") as caught:
        prove("log 2024-01", source_groups(s.snapshot, s.part, s.columns), archived.groups, s.columns)
    assert caught.value.organisation == "o1"


def test_row_that_moves_to_another_organisation_is_noticed(log: str, archived: Archived) -> None:
    execute(log, "UPDATE log SET org = 'o0' WHERE id = 7")
    with seen(log, "log", organisation="org") as s, pytest.raises(Mismatch, match="organisation 'o0'"):
        prove("log 2024-01", source_groups(s.snapshot, s.part, s.columns), archived.groups, s.columns)


def test_null_and_empty_are_told_apart_and_named(pg_database: str, tmp_path: Path) -> None:
    """A19."""
    execute(pg_database, "CREATE TABLE log (at timestamptz, line text)", "INSERT INTO log VALUES (now(), '')")
    found = archive(pg_database, "log", tmp_path)
    execute(pg_database, "UPDATE log SET line = NULL")
    with (
        seen(pg_database, "log") as s,
        pytest.raises(Mismatch, match="0 nulls in column 'line', the source 1") as caught,
    ):
        prove("log", source_groups(s.snapshot, s.part, s.columns), found.groups, s.columns)
    assert caught.value.column == "line"


def test_no_two_rows_look_alike_whatever_stands_in_their_values(pg_database: str, tmp_path: Path) -> None:
    """A19: the separators of the digest's own text do not confuse it."""
    pieces = ["", "~", ":", "1:", "0:", "1:a", "~~", "|", "a", "\x01", "\\", "'"]
    rows = [(a, b) for a in pieces for b in pieces] + [("a", None), (None, "a"), (None, None)]
    execute(pg_database, "CREATE TABLE log (at timestamptz, org int, a text, b text)")
    for n, row in enumerate(rows):
        a, b = (
            "NULL" if value is None else "E'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" for value in row
        )
        execute(pg_database, f"INSERT INTO log VALUES ('2024-01-01 00:00Z', {n}, {a}, {b})")
    with seen(pg_database, "log", organisation="org") as s:
        pair = [column for column in s.columns if column.name in ("a", "b")]
        line = row_text([column.canonical("t") for column in pair], "octet_length({v})")
        found = s.snapshot.rows(f"SELECT count(DISTINCT {line}) AS n FROM public.log t")
        assert found == [{"n": len(rows)}]
        groups = source_groups(s.snapshot, s.part, s.columns)
    path = archive(pg_database, "log", tmp_path, organisation="org").paths[0]
    assert read_groups(path) == groups


def test_digest_of_the_file_is_that_of_the_source_column_by_column(log: str, archived: Archived) -> None:
    with seen(log, "log", organisation="org") as s:
        for column in s.columns:
            assert source_groups(s.snapshot, s.part, s.columns, only=column.name) == read_groups(
                archived.paths[0], only=column.name
            )
        assert differing_columns(s.snapshot, s.part, s.columns, [KeptFile(archived.paths[0])], "o1") == []
    assert ask(log, "SELECT count(*) FROM log") == [(30_000,)]
