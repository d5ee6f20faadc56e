"""What an archive keeps never goes by a policy of orphans, whatever the declaration says by now (I6)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from maintenance_defs.control.archive import FileRow, UnitRow, file_id
from tests.retention.small_world import AS_OF, SmallWorld

POLICY = {
    "select": {"orphans": "files", "prefix": "docs/"}, "keep": [{"younger_than": "30 d"}], "act": {"objects": "delete"},
}  # fmt: skip


def know(world: SmallWorld, key: str) -> None:
    """An archive that was once declared here has stored this object."""
    state = world.home.control.archive
    state.add_unit(
        UnitRow(
            id="u", system="small", archive="old", source="pg", table="logs", relation="public.logs", relation_oid=1,
            lower=AS_OF, upper=AS_OF + timedelta(days=30), label="2025-06", part=0, generation=0, method="rows",
            planned_at=AS_OF, changed_at=AS_OF,
        )
    )  # fmt: skip
    state.announce_file(
        FileRow(
            id=file_id("small", "files", key), unit_id="u", generation=0, system="small", archive="old", store="files",
            key=key, sha256="a" * 64, size_bytes=4, rows=2, label="all", first_at=None, last_at=None, schema_version=1,
            row_groups=1, created_at=AS_OF,
        )
    )  # fmt: skip


def test_it_is_no_orphan_in_a_plan_nor_when_it_became_known_after_it(tmp_path: Path) -> None:
    world = SmallWorld(tmp_path, policies={"orphans": POLICY})
    world.sql("CREATE TABLE docs (id TEXT PRIMARY KEY, key TEXT)", "INSERT INTO docs VALUES ('1', 'docs/named')")
    world.put("docs/named", "docs/nobodys", "docs/archived")
    plan = world.plan("orphans")
    assert world.going(plan)[0] == ["docs/archived", "docs/nobodys"]
    know(world, "docs/archived")
    done = world.execute(plan)
    assert (done.counts["deleted"], done.counts["skipped_referenced"]) == (1, 1)
    assert world.objects() == ["docs/archived", "docs/named"]
    world.put("docs/nobodys")
    assert world.going(world.plan("orphans"))[0] == ["docs/nobodys"]
