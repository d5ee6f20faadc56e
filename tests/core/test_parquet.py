"""One Parquet file from a stream: whole or absent, its order known."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maintenance_defs.core.errors import ArtefactError
from maintenance_defs.core.parquet import ROW_GROUP_ROWS, write_sorted

SCHEMA = pa.schema([pa.field("key", pa.string(), False), pa.field("size_bytes", pa.int64())])


def batch(keys: list[str | None]) -> pa.RecordBatch:
    return pa.record_batch({"size_bytes": pa.array([len(k or "") for k in keys], pa.int32()), "key": keys})


def test_batches_become_equal_row_groups_in_the_schema_s_types(tmp_path: Path) -> None:
    rows = 2 * ROW_GROUP_ROWS + 5
    keys = [f"{n:09}" for n in range(rows)]
    written = write_sorted((batch(keys[n : n + 9_999]) for n in range(0, rows, 9_999)), tmp_path / "f", SCHEMA)
    assert (written.row_count, written.sorted) == (rows, True)
    assert written.size_bytes == (tmp_path / "f").stat().st_size
    file = pq.ParquetFile(tmp_path / "f")
    assert [file.metadata.row_group(n).num_rows for n in range(3)] == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 5]
    assert file.metadata.row_group(1).column(0).statistics.min == keys[ROW_GROUP_ROWS]
    assert file.schema_arrow.equals(SCHEMA)
    assert file.read()["key"].to_pylist() == keys


@pytest.mark.parametrize(
    ("batches", "kept"),
    [
        ([["a", "a"], [], ["a", "b"]], True),
        ([["b", "a"]], False),
        ([["a", "c"], ["b"]], False),
        ([["Z"], ["a"], ["é"], ["日"], ["\uffff"], ["🙂"]], True),  # UTF-8 bytes, not UTF-16 units or a language
        ([["a"], ["B"]], False),
        ([["b"], ["a"], ["c"]], False),
        ([["a b", "a/b"]], True),
        ([], True),
    ],
)
def test_order_of_bytes_is_checked_within_and_across_batches(
    tmp_path: Path, batches: list[list[str | None]], kept: bool
) -> None:
    assert write_sorted(map(batch, batches), tmp_path / "f", SCHEMA).sorted is kept


def test_order_is_checked_across_row_groups(tmp_path: Path) -> None:
    stream = [batch(["b"] * ROW_GROUP_ROWS), batch(["a"])]
    assert not write_sorted(stream, tmp_path / "f", SCHEMA).sorted


@pytest.mark.parametrize("batches_before", [0, 40])
def test_stream_that_breaks_leaves_no_file(tmp_path: Path, batches_before: int) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        for _ in range(batches_before):
            yield batch(["a"] * 10_000)
        raise ConnectionResetError("page 3")

    with pytest.raises(ConnectionResetError, match="page 3"):
        write_sorted(broken(), tmp_path / "f", SCHEMA)
    assert not list(tmp_path.iterdir())


def test_null_key_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="1 values"):
        write_sorted([batch(["a", None])], tmp_path / "f", SCHEMA)
    assert not list(tmp_path.iterdir())


def test_failure_of_the_writer_reaches_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_sorted([batch(["a"])], tmp_path / "no" / "f", SCHEMA)


def test_stream_is_not_read_ahead_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maintenance_defs.core.parquet.ROW_GROUP_ROWS", 10_000)
    written = 0
    lead = 0

    def count(*_: object, **__: object) -> None:
        nonlocal written
        written += 1

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal lead
        for n in range(50):
            lead = max(lead, n - written)
            yield batch(["a"] * 10_000)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", count)
    write_sorted(stream(), tmp_path / "f", SCHEMA)
    assert lead <= 5
