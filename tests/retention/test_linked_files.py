"""A file that rows name by a link in the same folder is needed, though no row has its own key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.retention.small_world import SmallWorld

POLICIES: dict[str, dict[str, Any]] = {
    "orphans": {
        "select": {"orphans": "files", "prefix": "docs/"},
        "keep": [{"younger_than": "24 h"}],
        "act": {"objects": "quarantine"},
    },
    "temporary": {
        "select": {"objects": "files", "prefix": "raw/"},
        "keep": [{"younger_than": "24 h"}],
        "act": {"objects": "delete"},
    },
    "gone": {
        "select": {"rows": "docs", "id": "id", "where": "gone = 1"},
        "keep": [{"while": "id = 0"}],
        "act": {"objects": "delete", "rows": "delete"},
    },
}


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_link_in_the_folder_leads_to_stays(tmp_path: Path, policy: str) -> None:
    world = SmallWorld(tmp_path, policies=POLICIES)
    world.sql(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, key TEXT, gone INTEGER)",
        "INSERT INTO docs VALUES (1, 'docs/current/a.pdf', 0), (2, 'docs/latest.pdf', 0), (3, 'raw/by/b.tmp', 0),"
        " (4, 'docs/2024/c.pdf', 1), (5, 'docs/now.pdf', 0), (6, 'docs/2025/gone.pdf', 1)",
    )
    files = tmp_path / "files"
    needed = ["docs/2024/a.pdf", "docs/2024/c.pdf", "docs/2025/d.pdf", "raw/run/b.tmp"]
    may_go = {"orphans": "docs/2025/orphan.pdf", "temporary": "raw/2.tmp", "gone": "docs/2025/gone.pdf"}
    world.put(*needed, *may_go.values())
    (files / "docs/current").symlink_to("2024")
    (files / "docs/latest.pdf").symlink_to(files / "docs/2025/d.pdf")
    (files / "docs/now.pdf").symlink_to("latest.pdf")
    (files / "raw/by").symlink_to("run")
    (files / "docs/outside").symlink_to(tmp_path / "home")
    world.execute(world.plan(policy))
    assert all((files / key).is_file() for key in needed)
    assert [name for name, key in may_go.items() if not (files / key).exists()] == [policy]
