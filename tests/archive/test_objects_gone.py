"""Nothing is removed whose copy is not in the store, byte for byte, at that moment (V1, C38, C39, C41)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from maintenance_defs.archive import gate
from tests.archive.world import COLD, FILL, LogWorld
from tests.support.months import rows
from tests.support.postgres import execute as run


def gone(path: Path) -> None:
    path.unlink()


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [gone, flipped])
def test_a_detached_month_is_not_dropped_without_its_file(
    tmp_path: Path, pg_database: str, harm: Callable[[Path], None]
) -> None:
    world = LogWorld(tmp_path, pg_database, {"undo_window": "1 s", "keep": "forever", "keep_by": None})
    run(pg_database, FILL.format(rows=40))
    assert world.apply(COLD).state == "done"
    [file] = world.files()
    whole = (world.objects / file.key).read_bytes()
    harm(world.objects / file.key)
    time.sleep(1.1)
    done = world.apply(None)  # type: ignore[arg-type]
    [problem] = done.problems
    assert (problem["act"], problem["outcome"]) == ("drop", "failed")
    assert file.key in problem["detail"]
    assert world.unit().state == "detached"
    assert rows(pg_database, "SELECT count(*) FROM maintenance_archive.logs_2024_01") == [(40,)]
    (world.objects / file.key).write_bytes(whole)  # from a version, or a replica
    assert world.apply(None).counts == {"deleted": 1}  # type: ignore[arg-type]
    assert len(world.read()) == 40


@pytest.mark.parametrize("harm", [gone, flipped])
def test_no_row_is_deleted_without_its_file(
    tmp_path: Path, pg_database: str, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    world = LogWorld(tmp_path, pg_database, {"remove": "rows"})
    run(pg_database, FILL.format(rows=40))
    real = gate.agree

    def after_the_export(*args: object) -> object:
        [file] = world.files()
        harm(world.objects / file.key)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(gate, "agree", after_the_export)
    done = world.apply(COLD)
    assert set(done.counts) == {"failed"}
    assert world.files()[0].key in str(done.problems)
    assert rows(pg_database, "SELECT count(*) FROM logs") == [(40,)]
