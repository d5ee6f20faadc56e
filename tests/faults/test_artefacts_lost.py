"""Killed between file and record, or files cut or lost: nothing wrong is concluded, the next run is right."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from maintenance_defs.cli import main
from maintenance_defs.control.artefacts import MANIFEST, Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import ArtefactError
from maintenance_defs.declarations import load_systems
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from maintenance_defs.reconcile.run import reconcile
from tests.components.conftest import write

SHOP = """\
type: maintenance_defs.components.MaintainedSystem
attributes:
  name: shop
  description: A shop.
  owners: ["team:shop"]
  database: {url_env: SHOP_DATABASE_URL}
  stores:
    files: {url_env: SHOP_FILES_URL, scopes: [{prefix: a/, exclusive: true}]}
  references:
    - {table: assets, id: id, store: files, object: {column: key}}
"""
LONG_AGO = 1_700_000_000
KINDS = ("inventory", "references", "orphan_diff")
# Runs `maintain reconcile shop`, and ends as by kill -9 at one recording.
KILLED = """
import os, signal, sys
from maintenance_defs.control.database import Control
kind, moment = sys.argv[1:]
record = Control.record
def killed(self, artefact):
    if moment == "before" and artefact.kind == kind:
        os.kill(os.getpid(), signal.SIGKILL)
    record(self, artefact)
    if moment == "after" and artefact.kind == kind:
        os.kill(os.getpid(), signal.SIGKILL)
Control.record = killed
from maintenance_defs.cli import main
main(["reconcile", "shop"])
"""


class Shop:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write(folder / "deployment", {"assets/shop/defs.yaml": SHOP})
        self.environment = {
            "MAINTENANCE_ROOT": str(folder / "deployment"),
            "MAINTENANCE_HOME": str(folder / "home"),
            "SHOP_DATABASE_URL": f"sqlite:///{folder / 'shop.sqlite'}",
            "SHOP_FILES_URL": str(folder / "files"),
        }
        self.sql("CREATE TABLE assets (id INTEGER PRIMARY KEY, key TEXT)")
        self.put("a/orphan")
        self.add("a/1")
        self.home = Home.open(self.environment)

    def sql(self, statement: str, *values: str) -> None:
        with closing(sqlite3.connect(self.folder / "shop.sqlite")) as connection, connection:
            connection.execute(statement, values)

    def put(self, key: str) -> None:
        path = self.folder / "files" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        os.utime(path, (LONG_AGO, LONG_AGO))

    def add(self, key: str) -> None:
        """An object and its row."""
        self.put(key)
        self.sql("INSERT INTO assets (key) VALUES (?)", key)

    @property
    def system(self) -> System:
        return load_systems(self.folder / "deployment")["shop"].system

    def reconcile(self) -> Artefact:
        return reconcile(self.system, self.home)

    def killed(self, kind: str, moment: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, kind, moment], env=os.environ | self.environment, capture_output=True
        )
        assert done.returncode == -signal.SIGKILL, done.stderr

    def newest(self, kind: str) -> Artefact | None:
        return self.home.control.latest("shop", kind, "files" if kind == "inventory" else "")

    def folders(self, kind: str) -> set[str]:
        """Ids of the artefacts of this kind that lie on disk."""
        return {file.parent.name for file in (self.home.path / "artefacts" / "shop" / kind).rglob(MANIFEST)}

    def run(self, *words: str) -> Result:
        return CliRunner(env=self.environment).invoke(main, [words[0], "shop", *words[1:]])

    def orphans(self) -> list[str]:
        lines = self.run("report", "--last", "--format", "csv").stdout.splitlines()[1:]
        return [line.split(",")[0].strip('"') for line in lines]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.home.control.close()


@pytest.mark.parametrize("kind", KINDS)
def test_killed_before_the_record_leaves_files_that_nobody_takes_for_current(shop: Shop, kind: str) -> None:
    assert shop.reconcile().verdict == "complete"
    before = shop.newest(kind)
    assert before is not None
    shop.add("a/2")
    shop.killed(kind, "before")
    assert len(shop.folders(kind)) == 2  # the files are whole …
    assert shop.newest(kind) == before  # … and no row names them
    if kind != "orphan_diff":
        alone = take_orphan_diff(shop.system, shop.home, run_id="alone")
        assert "a/2" not in shop.orphans()
        # A newer inventory stands beside older references: their order shows it. Else both are of the first run.
        assert alone.verdict == ("refused" if kind == "references" else "complete")
    healed = shop.reconcile()
    assert (healed.verdict, shop.orphans()) == ("complete", ["a/orphan"])
    named = {artefact.id for artefact in shop.home.control.history("shop", kind, before.name)}
    assert len(shop.folders(kind) - named) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_killed_after_the_record_the_next_run_is_right(shop: Shop, kind: str) -> None:
    shop.reconcile()
    shop.add("a/2")
    shop.killed(kind, "after")
    assert "a/2" not in shop.orphans()
    if kind == "inventory":  # recorded; the references are still those of the first run
        diff = take_orphan_diff(shop.system, shop.home, run_id="alone")
        assert (diff.verdict, diff.reason) == ("refused", "stale_inputs")
    assert shop.reconcile().verdict == "complete"
    assert shop.orphans() == ["a/orphan"]
    [finding] = [row for batch in shop.home.control.findings("shop") for row in batch.to_pylist()]
    assert (finding["key"], finding["resolved_at"]) == ("a/orphan", None)


def test_killed_in_its_very_first_run_a_system_has_no_report(shop: Shop) -> None:
    shop.killed("orphan_diff", "before")
    done = shop.run("report", "--last")
    assert (done.exit_code, "has not been reconciled yet" in done.stderr) == (2, True)
    assert shop.reconcile().verdict == "complete"
    assert shop.orphans() == ["a/orphan"]


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)


def cut_manifest(file: Path) -> None:
    cut(manifest_of(file))


def lose_manifest(file: Path) -> None:
    manifest_of(file).unlink()


def manifest_of(file: Path) -> Path:
    return next(folder / MANIFEST for folder in file.parents if (folder / MANIFEST).exists())


DAMAGE = [cut, flip, Path.unlink, cut_manifest, lose_manifest]


INVENTORY = ("inventory", "inventory.parquet")
REFERENCES = ("references", "references/files/00.parquet")


@pytest.mark.parametrize(
    ("kind", "file", "damage"),
    [*((*REFERENCES, damage) for damage in DAMAGE), (*INVENTORY, flip), (*INVENTORY, Path.unlink)],
)
def test_an_input_damaged_after_its_record_is_never_concluded_from(
    shop: Shop, kind: str, file: str, damage: Callable[[Path], None]
) -> None:
    shop.reconcile()
    before = shop.newest("orphan_diff")
    artefact = shop.newest(kind)
    assert artefact is not None and artefact.uri is not None
    damage(shop.home.artefacts.local(artefact.uri) / file)
    with pytest.raises(ArtefactError, match=r"is not what was recorded: .* Run the step that makes it again\."):
        take_orphan_diff(shop.system, shop.home, run_id="again")
    assert shop.newest("orphan_diff") == before
    assert not list((shop.home.path / "artefacts" / ".staging").iterdir())
    shop.add("a/2")
    assert shop.reconcile().verdict == "complete"
    assert shop.orphans() == ["a/orphan"]


@pytest.mark.parametrize("damage", [flip, lose_manifest])
def test_a_damaged_diff_is_not_told_of(shop: Shop, damage: Callable[[Path], None]) -> None:
    artefact = shop.reconcile()
    assert artefact.uri is not None
    damage(shop.home.artefacts.local(artefact.uri) / "objects/files.parquet")
    for words in (["report", "--last"], ["report", "--last", "--format", "csv"], ["explain", "a/orphan"]):
        done = shop.run(*words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "It was not used. Run the step that makes it again." in done.stderr
    assert shop.reconcile().verdict == "complete"
    assert shop.orphans() == ["a/orphan"]


def test_all_artefacts_lost_the_next_run_is_right(shop: Shop) -> None:
    first = shop.reconcile()
    (shop.home.path / "artefacts").rename(shop.folder / "lost")
    assert shop.run("report", "--last").exit_code == 2
    shop.add("a/2")
    second = shop.reconcile()
    assert (first.verdict, second.verdict) == ("complete", "complete")
    assert shop.orphans() == ["a/orphan"]
