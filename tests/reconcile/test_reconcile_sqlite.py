"""Inventory, references and diff together, on a real SQLite file and a real folder."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from maintenance_defs.reconcile.references import take_references
from maintenance_defs.reporting.explain import explain_row
from tests.support.diff_world import Diff

OLD = datetime.now(UTC) - timedelta(days=30)
NFC, NFD = "a/caf\u00e9.png", "a/cafe\u0301.png"


class Shop:
    def __init__(self, path: Path) -> None:
        self.folder = path / "files"
        self.folder.mkdir()
        self.database = sqlite3.connect(path / "shop.db", isolation_level=None)
        self.database.execute("CREATE TABLE assets (id INTEGER PRIMARY KEY, key TEXT, size INTEGER, url TEXT)")
        self.home = Home(path / "home", {"FILES": str(self.folder), "DB": f"sqlite:///{path / 'shop.db'}"})
        declared: Mapping[str, Any] = {
            "name": "shop",
            "database": {"url_env": "DB"},
            "stores": {"files": {"url_env": "FILES", "scopes": [{"prefix": "a/", "exclusive": True}]}},
            "references": [
                {"table": "assets", "id": "id", "store": "files", "object": {"column": "key"}, "size": "size"},
                {"table": "assets", "id": "id", "store": "files", "object": {"url": "url"}, "protects_only": True},
            ],
        }
        self.system = System.model_validate(declared)

    def put(self, key: str, size: int = 3, modified_at: datetime = OLD) -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, (modified_at.timestamp(),) * 2)

    def row(self, id_: int, key: str | None, size: int | None = None, url: str | None = None) -> None:
        self.database.execute("INSERT INTO assets VALUES (?, ?, ?, ?)", (id_, key, size, url))

    def inventory(self) -> None:
        assert take_inventory(self.system, "files", self.home, run_id="r").verdict == "complete"

    def diff(self) -> Diff:
        references = take_references(self.system, self.home, run_id="r")
        assert references.verdict == "complete", references.evidence
        return Diff(self.home, take_orphan_diff(self.system, self.home, run_id="r"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_whole_way_from_folder_and_rows_to_the_diff(shop: Shop) -> None:
    shop.put("a/matched")
    shop.put("a/orphan")
    shop.put("a/young", modified_at=datetime.now(UTC))
    shop.put("a/empty", size=0)
    shop.put("a/photo.jpg")
    shop.put("a/pad")
    shop.put("a/cdn.png")
    shop.put("outside")
    shop.put(NFC)
    shop.row(1, "a/matched", 3)
    shop.row(2, "a/empty")
    shop.row(3, "a/Photo.JPG")
    shop.row(4, "a/pad\n")
    shop.row(5, NFD)
    shop.row(6, "a/gone")
    shop.row(7, None)
    shop.row(8, "a/matched", url="https://cdn.example.com/x/a/cdn.png?sig=1")
    shop.inventory()
    diff = shop.diff()
    assert diff.objects() == {
        "a/orphan": "orphan_candidate",
        "a/young": "young",
        "a/empty": "corrupt_candidate",
        "a/photo.jpg": "ambiguous",
        "a/pad": "ambiguous",
        "a/cdn.png": "ambiguous",
        NFC: "ambiguous",
    }
    missing = {row for row, item in diff.rows().items() if item == "missing_candidate"}
    assert missing >= {"3", "5", "6"}
    assert diff.rows()["7"] == "no_key"
    assert diff.rows()["8"] == "unresolvable_reference"
    assert diff.artefact.verdict == "complete"
    assert len(diff.artefact.inputs) == 2


def test_object_and_row_that_came_after_the_listing_are_nothing(shop: Shop) -> None:
    shop.put("a/1")
    shop.row(1, "a/1")
    shop.inventory()
    shop.put("a/2")
    shop.row(2, "a/2")
    diff = shop.diff()
    assert (diff.objects(), diff.rows()) == ({}, {})


def test_listing_after_the_snapshot_is_refused(shop: Shop) -> None:
    shop.put("a/1")
    shop.row(1, "a/1")
    shop.inventory()
    take_references(shop.system, shop.home, run_id="r")
    shop.inventory()
    diff = take_orphan_diff(shop.system, shop.home, run_id="r")
    assert (diff.verdict, diff.reason) == ("refused", "stale_inputs")


def test_second_run_confirms_what_is_still_gone_and_keeps_first_seen(shop: Shop) -> None:
    for key in ("a/1", "a/orphan"):
        shop.put(key)
    shop.row(1, "a/1")
    shop.row(2, "a/gone")
    found = []
    for _ in range(2):
        shop.inventory()
        found.append(shop.diff())
    assert [diff.rows() for diff in found] == [{"2": "missing_candidate"}, {"2": "missing_confirmed"}]
    (seen,) = [r for b in shop.home.control.findings("shop", "files", key="a/orphan") for r in b.to_pylist()]
    assert seen["observations"] == 2
    assert seen["first_seen_at"] == found[0].artefact.as_of


PICTURES = ("a/1.png", "a/2.png", "a/3.png")


class Gallery(Shop):
    """Products with a list of pictures, a scan in either of two places, and a column that nobody declared."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.database.execute("CREATE TABLE products (id TEXT, gallery TEXT, manuals TEXT, scan TEXT, note TEXT)")
        product = {"table": "products", "id": "id", "store": "files"}
        forms: list[dict[str, str]] = [
            {"json": "gallery", "at": "$[*].src", "form": "path"},
            {"array": "manuals", "separator": ","},
            {"column": "scan"},
            {"template": "a/scans/{id}.tif"},
        ]
        self.system = self.system.model_validate(
            self.system.model_dump(by_alias=True, exclude_unset=True)
            | {"references": [product | {"object": form} for form in forms]}
        )

    def product(self, id_: str, pictures: tuple[str, ...], manuals: str, scan: str, note: str | None = None) -> None:
        gallery = "[" + ", ".join(f'{{"src": "{picture}"}}' for picture in pictures) + "]"
        self.database.execute("INSERT INTO products VALUES (?, ?, ?, ?, ?)", (id_, gallery, manuals, scan, note))


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    shop = Gallery(tmp_path)
    for key in (*PICTURES, "a/m1", "a/m2", "a/m3", "a/scan"):
        shop.put(key)
    shop.product("p", PICTURES, "a/m1,a/m2,a/m3", "a/scan")  # its scan stands in one of the two places
    return shop


def test_whole_list_and_either_of_two_places_are_no_finding(gallery: Gallery) -> None:
    gallery.inventory()
    diff = gallery.diff()
    assert (diff.objects(), diff.rows()) == ({}, {})
    assert diff.evidence["rows"]["checked"] == 7  # three pictures, three manuals, the row's scan


@pytest.mark.parametrize(
    ("gone", "found"),
    [
        (["a/2.png"], {"p[2]": "a/2.png"}),
        (["a/1.png", "a/3.png"], {"p[1]": "a/1.png", "p[3]": "a/3.png"}),
        (["a/m3"], {"p[3]": "a/m3"}),  # the third picture, of another list, is there
        (["a/scan"], {"p": "a/scan"}),
    ],
)
def test_each_value_of_a_list_is_missing_by_itself(gallery: Gallery, gone: list[str], found: dict[str, str]) -> None:
    for key in gone:
        (gallery.folder / key).unlink()
    items = []
    for _ in range(2):
        gallery.inventory()
        diff = gallery.diff()
        assert {row: diff.row(row)["key"] for row in diff.rows()} == found
        items.append(set(diff.rows().values()))
    assert items == [{"missing_candidate"}, {"missing_confirmed"}]


def test_value_of_a_list_with_two_readings_is_missing_only_when_neither_exists(gallery: Gallery) -> None:
    gallery.product("q", ("/a/1.png", "/a/gone.png"), "a/m1", "a/scan")  # with or without the slash before it
    gallery.inventory()
    diff = gallery.diff()
    assert diff.rows() == {"q[2]": "missing_candidate"}
    assert diff.row("q[2]")["reason"].endswith(": /a/gone.png, a/gone.png")


def test_row_is_explained_with_the_values_of_its_lists_and_one_value_by_itself(gallery: Gallery) -> None:
    (gallery.folder / "a/2.png").unlink()
    gallery.product("p[x", ("a/1.png",), "a/m1", "a/scan")
    gallery.inventory()
    gallery.diff()
    whole = explain_row(gallery.system, gallery.home, "products", "p")
    assert [key["row_id"] for key in whole.facts["keys"] if key["key"].endswith(".png")] == ["p[1]", "p[2]", "p[3]"]
    assert "- products: gallery $[*].src as path [2]: a/2.png in files: NOT LISTED" in whole.text()
    assert "Judged [2]: missing_candidate" in whole.text()
    one = explain_row(gallery.system, gallery.home, "products", "p[2]")
    assert [key["key"] for key in one.facts["keys"]] == ["a/2.png", "a/m2"]  # the second of either list
    assert [row["row_id"] for row in one.facts["decided"]] == ["p[2]"]


def test_list_in_an_undeclared_column_protects_under_the_name_of_the_column(gallery: Gallery) -> None:
    gallery.put("a/noted")
    gallery.product("q", PICTURES, "a/m1", "a/scan", note='["a/noted", "a/1.png"]')
    gallery.inventory()
    diff = gallery.diff()
    assert diff.objects() == {"a/noted": "ambiguous"}
    assert "products.note" in diff.object("a/noted")["reason"]
    assert "products.note[" not in diff.object("a/noted")["reason"]
