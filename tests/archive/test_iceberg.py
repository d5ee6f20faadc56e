"""The archive as an Iceberg table: exactly what the catalogue says, read by others, and no object of ours at risk."""

from __future__ import annotations

from pathlib import Path

from tests.archive.iceberg_world import PER_ORG, ids, iceberg_world, loaded, objects, published, read, stands


def test_another_process_reads_the_rows_that_left(tmp_path: Path, pg_database: str) -> None:
    made = iceberg_world(tmp_path, pg_database, **PER_ORG)
    made.archived()
    before = objects(made)
    done = published(made)
    assert (done.well, done.files, done.rows) == (True, 4, 4000)
    found = read(made)
    mine = made.read()
    assert [row["id"] for row in found["rows"]] == [row["id"] for row in mine]
    assert found["rows"] == [{name: v if isinstance(v, int) or v is None else str(v) for name, v in r.items()} for r in mine]
    assert objects(made) == before
    assert published(made).added == 0
