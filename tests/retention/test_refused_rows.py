"""A row that its database will not let go keeps its objects: they are not even touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.retention.small_world import SmallWorld

POLICY = {
    "select": {"rows": "docs", "id": "id", "where": "gone = 1"},
    "keep": [{"while": "id = 0"}],
    "act": {"objects": "delete", "rows": "delete"},  # what is deleted here, nobody gives back
}
REFUSALS = {
    "foreign key": [
        "CREATE TABLE invoices (id INTEGER PRIMARY KEY, doc INTEGER REFERENCES docs (id) ON DELETE RESTRICT)",
        "INSERT INTO invoices VALUES (7, 2)",
    ],
    "trigger": [
        "CREATE TRIGGER stays BEFORE DELETE ON docs WHEN old.id = 2 BEGIN SELECT RAISE(ABORT, 'it is on trial'); END"
    ],
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_the_file_of_a_row_that_the_database_refuses_to_delete_stays(tmp_path: Path, refusal: str) -> None:
    world = SmallWorld(tmp_path, policies={"gone": POLICY})
    world.sql(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, key TEXT, gone INTEGER)",
        "INSERT INTO docs VALUES (1, 'docs/1.pdf', 1), (2, 'docs/2.pdf', 1), (3, 'docs/3.pdf', 0)",
        *REFUSALS[refusal],
    )
    world.put("docs/1.pdf", "docs/2.pdf", "docs/3.pdf")
    done = world.execute(world.plan("gone"))
    assert world.objects() == ["docs/2.pdf", "docs/3.pdf"]
    assert world.sql("SELECT id FROM docs ORDER BY id") == [(2,), (3,)]
    row = {"foreign key": "skipped_referenced", "trigger": "failed"}[refusal]
    assert done.by_kind == {"object": {"deleted": 1, "skipped_kept": 1}, "docs": {"deleted": 1, row: 1}}
    assert done.state == {"foreign key": "done", "trigger": "partial"}[refusal]
