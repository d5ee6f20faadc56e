"""Trails: what is declared wrongly does not load."""

from __future__ import annotations

from pathlib import Path

import pytest

from maintenance_defs.core.declaration import System, config_digest
from maintenance_defs.declarations import load_systems
from tests.components.conftest import PAPERS, write

TRAIL = """\
  trails:
    paper:
      describe: A paper and its reader.
      table: docs
      id: id
      links: [{table: readers, id: id, match: paper_id, value: id}]
"""


def load(tmp_path: Path, trail: str) -> System:
    return load_systems(write(tmp_path / "p", {"assets/papers/defs.yaml": PAPERS + trail}))["papers"].system


def test_a_trail_is_no_part_of_what_a_reconciliation_depends_on(tmp_path: Path) -> None:
    assert config_digest(load(tmp_path, TRAIL)) == config_digest(load(tmp_path, ""))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    paper:\n", "    last:\n", "`maintain validate` has an option of that name"),
        ("value: id}", "value: id, of: nobody}", "'nobody' is not before it; there is docs"),
        ("{table: readers", "{table: docs", "'docs' is in the trail already"),
    ],
)
def test_a_wrong_trail_is_named_with_its_file(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(Exception, match=r"assets/papers/defs.yaml:\d+") as error:
        load(tmp_path, TRAIL.replace(old, new))
    assert said in str(error.value)
