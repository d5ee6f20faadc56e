"""Why: for an object, for a row, for a declaration (hazard I10)."""

import json

import pytest

from tests.cli.conftest import World

LION = "assets/lion/pl_preview.png"


def test_an_orphan_is_explained_with_its_evidence(reconciled: World) -> None:
    told = json.loads(reconciled.run("explain", LION, "--json").stdout)
    assert told["item"] == "orphan_candidate"
    assert "no row of assets names it" in told["reason"]
    assert told["searched"] == [
        {"reference": "assets: column storage_key", "protects_only": False, "keys": 150, "rows": 0, "row_ids": []}
    ]
    assert all(not form["found"] for form in told["forms"])
    assert {near["key"] for near in told["nearest"]} & {"assets/lion/de_preview.png", "assets/lion/en_preview.png"}
    assert told["seen"][0]["first_seen"] == "2024-01-15T03:00:00Z"
    assert told["evidence"]["cutoff"] == "2024-01-15T02:00:00Z"
    assert told["evidence"]["listing_ended_at"] <= told["evidence"]["snapshot_taken_at"]


def test_a_kept_object_names_its_row(reconciled: World) -> None:
    text = reconciled.run("explain", "assets/ant/pl_preview.png").stdout
    assert text.startswith("assets/ant/pl_preview.png in pages: matched")
    assert "named by 1 row: dddddddd-0000-4000-8000-000000000111" in text


def test_a_near_miss_says_what_comes_near(colouring: World) -> None:
    colouring.sql(
        "UPDATE assets SET storage_key = 'assets/lion/PL_Preview.png' WHERE storage_key LIKE '%lion/pl_page%'"
    )
    colouring.report()
    text = colouring.run("explain", LION).stdout
    assert text.startswith(f"{LION} in pages: ambiguous")
    assert "assets/lion/PL_Preview.png" in text
    assert "case twin" in text


def test_a_young_object_says_so(colouring: World) -> None:
    colouring.put(LION, modified_at="2024-01-15T02:30:00Z")
    colouring.report()
    assert colouring.run("explain", LION).stdout.startswith(f"{LION} in pages: young")


def test_an_unknown_key_is_not_listed(reconciled: World) -> None:
    assert "not_listed" in reconciled.run("explain", "assets/unicorn/pl_preview.png").stdout


def test_a_broken_row_is_explained(colouring: World) -> None:
    (colouring.store / "assets/owl/en_page.pdf").unlink()
    colouring.report()
    text = colouring.run("explain", "--row", "assets", "dddddddd-0000-4000-8000-000000001322").stdout
    assert "assets/owl/en_page.pdf in pages: NOT LISTED" in text
    assert "Judged: missing_candidate" in text


def test_a_whole_row_is_explained(reconciled: World) -> None:
    text = reconciled.run("explain", "--row", "assets", "dddddddd-0000-4000-8000-000000000111").stdout
    assert "Judged: whole." in text


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (["--row", "users", "1"], "Known: assets."),
        ([LION, "--store", "nope"], "Known: pages."),
        ([LION, "--store", "page"], "Did you mean 'pages'?"),
    ],
)
def test_what_is_not_declared_is_a_usage_error_that_names_what_is(
    reconciled: World, arguments: list[str], known: str
) -> None:
    done = reconciled.run("explain", *arguments)
    assert done.exit_code == 2
    assert known in done.stderr
    told = reconciled.run("explain", *arguments, "--json")
    assert (told.exit_code, json.loads(told.stdout)["error"]["type"]) == (2, "UnknownName")


def test_an_undeclared_store_is_named_before_anything_was_reconciled(colouring: World) -> None:
    done = colouring.run("explain", LION, "--store", "nope")
    assert (done.exit_code, "Known: pages." in done.stderr) == (2, True)


def test_nothing_is_explained_before_it_was_decided(colouring: World) -> None:
    done = colouring.run("explain", LION)
    assert done.exit_code == 2
    assert "has not been reconciled yet" in done.stderr


def test_nothing_is_explained_from_a_database_that_could_not_be_read(colouring: World) -> None:
    colouring.database.unlink()
    colouring.report()
    done = colouring.run("explain", LION)
    assert done.exit_code == 3
    assert "nothing was decided" in done.stderr


def test_a_declaration_is_told_in_words(reconciled: World) -> None:
    text = reconciled.run("explain").stdout
    assert "in assets, storage_key is the key, byte for byte (store pages)." in text
    assert "COLOURING_DATABASE_URL (set)" in text
    assert "control.db" in text
    assert "orphaned_files (manual): a file that no record names - stays: younger than 1 h." in text
