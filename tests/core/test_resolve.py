"""The one resolver: every spelling that a URL may have, and what it must never give away."""

import duckdb
import pyarrow as pa
import pytest

from maintenance_defs.core.resolve import StoreNames, resolve, rows_schema
from tests.support.resolving import BOTH, LINE, OBJECT_URL, SECRETS, URLS, declared, exact, lines


@pytest.mark.parametrize(("url", "expected"), URLS.items(), ids=list(URLS))
def test_every_spelling_of_a_url_names_its_object(
    connection: duckdb.DuckDBPyConnection, url: str, expected: tuple[str, str]
) -> None:
    (line,) = lines(connection, declared({"url": "u"}, BOTH), url)
    assert (line["kind"], line["store"], line["key"]) == ("exact", *expected)


# S1-9, C06, D04, J05
NO_OBJECT = {
    "not-a-url": ("unresolvable", "not-a-url", "not a URL"),
    "data:image/png;base64,AAAA": ("unresolvable", None, "a data: URL names no object"),
    f"{OBJECT_URL}/sign/videos": ("unresolvable", None, "names no object"),
    f"{OBJECT_URL}/sign/videos/?token=t": ("unresolvable", None, "names no object"),
    f"{OBJECT_URL}/sign/unknown-bucket/a.mp4": ("unresolvable", "a.mp4", "undeclared bucket unknown-bucket"),
    "https://elsewhere.s3.amazonaws.com/a.png": ("unresolvable", "a.png", "undeclared bucket elsewhere"),
    "https://s3.amazonaws.com/": ("unresolvable", None, "names no bucket"),
    "ftp://images/a.png": ("unresolvable", "a.png", "no store has URLs of scheme ftp"),
    "https://cdn.example.com/x/y%20z.mp4": ("external", "x/y z.mp4", "cdn.example.com"),
    "https://pub-ffff.r2.dev/a.png": ("external", "a.png", "pub-ffff.r2.dev"),
    "https://cdn.example.org/based/a.png": ("external", "based/a.png", "cdn.example.org"),
    "https://u:p@other.example:8443/a.png?token=t": ("external", "a.png", "other.example:8443"),
    "": ("no_key", None, None),
    " \n": ("no_key", None, None),
    "null": ("no_key", None, None),
    "NULL": ("no_key", None, None),
    None: ("no_key", None, None),
}


@pytest.mark.parametrize(("url", "expected"), NO_OBJECT.items(), ids=map(str, NO_OBJECT))
def test_what_names_no_object_of_ours_is_said_to(
    connection: duckdb.DuckDBPyConnection, url: str | None, expected: tuple[str, str | None, str | None]
) -> None:
    (line,) = lines(connection, declared({"url": "u"}, BOTH), url)
    assert (line["kind"], line["value"], line["reason"]) == expected
    assert line["store"] is None and line["key"] is None


# C12
def test_padding_and_invisible_characters_around_a_url_are_taken_off_and_told(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    found = lines(
        connection,
        declared({"url": "u"}),
        " s3://images/a.png\n",
        "\ufeffs3://images/b.png\u200b",
        "s3://images/c.png  ",
    )
    assert [(line["key"], line["dirty"]) for line in found] == [("a.png", True), ("b.png", True), ("c.png", True)]


def test_an_unencoded_hash_leaves_both_readings(connection: duckdb.DuckDBPyConnection) -> None:
    url = declared({"url": "u"})
    assert exact(connection, url, "s3://images/a#1.png") == {("images", "a#1.png"), ("images", "a")}
    assert exact(connection, url, "https://pub-0a1b.r2.dev/a?b.png") == {("images", "a?b.png"), ("images", "a")}


def test_key_of_another_declared_store_is_protected_there_and_claimed_nowhere(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    (line,) = lines(connection, declared({"url": "u"}, "videos"), "s3://images/a.png")
    assert {name: line[name] for name in LINE} == {
        "store": "images",
        "key": None,
        "kind": "undeclared",
        "value": "a.png",
        "reason": "names store images, which the reference does not declare",
    }


# C21
def test_same_key_in_another_bucket_is_no_reference_to_this_one(connection: duckdb.DuckDBPyConnection) -> None:
    assert exact(connection, declared({"url": "u"}, BOTH), "s3://videos/a.png") == {("videos", "a.png")}


def test_bucket_in_a_host_name_is_compared_in_small_letters(connection: duckdb.DuckDBPyConnection) -> None:
    url = declared({"url": "u"}, "archive")
    assert exact(connection, url, "https://archive.old.s3.amazonaws.com/A.png") == {("archive", "A.png")}
    assert exact(connection, url, "https://s3.amazonaws.com/Archive.Old/A.png") == {("archive", "A.png")}


def test_longest_declared_host_wins(connection: duckdb.DuckDBPyConnection) -> None:
    stores = (StoreNames("a", (), ("https://cdn/",)), StoreNames("b", (), ("https://cdn/b",)))
    reference = declared({"url": "u"}, ["a", "b"])
    rows = pa.Table.from_pylist(
        [{"row_id": "1", "v0": "https://cdn/b/x"}, {"row_id": "2", "v0": "https://cdn/bc/x"}],
        schema=rows_schema(reference),
    )
    found = resolve(connection, reference, stores, rows).to_arrow_table().to_pylist()
    assert [(line["store"], line["key"]) for line in found] == [("b", "x"), ("a", "bc/x")]


@pytest.mark.parametrize("form", ["url", "path", "text", "prefix"])
def test_no_query_or_password_reaches_an_output(connection: duckdb.DuckDBPyConnection, form: str) -> None:
    for line in lines(connection, declared({form: "u"}), *SECRETS):
        if form in ("path", "prefix") and line["row_id"] in ("5", "6", "9"):
            continue  # without scheme and signature these are keys like any other
        assert "SECRET" not in f"{[line[name] for name in LINE]}"


def test_url_in_a_key_column_is_unresolvable_and_loses_its_query(connection: duckdb.DuckDBPyConnection) -> None:
    (line,) = lines(connection, declared({"column": "u"}), "https://cdn/x/a%20b.mp4?token=SECRET")
    assert (line["kind"], line["value"]) == ("unresolvable", "x/a b.mp4")
