"""Loose equality: everything that people and software do to keys is undone, and each way has its name."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import quote

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintenance_defs.core import near_miss, value_parts


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        near_miss.install(connection)
        yield connection


def loose(con: duckdb.DuckDBPyConnection, *keys: str) -> list[str]:
    row = con.execute(f"SELECT {', '.join('loose_key(?::VARCHAR)' for _ in keys)}", list(keys)).fetchone()
    assert row is not None
    return list(row)


@pytest.mark.parametrize(
    ("key", "other", "form"),
    [
        ("a/b c.png", "a/b%20c.png", "percent-encoding twin"),
        ("a/b c.png", "a/b%2520c.png", "percent-encoding twin (encoded twice, or + for a blank)"),
        ("a/b c.png", "a/b+c.png", "percent-encoding twin (encoded twice, or + for a blank)"),
        ("a/\u00e9", "a/%C3%A9", "percent-encoding twin"),
        ("a/100%.png", "a/100%25.png", "percent-encoding twin"),
        ("a/\u00e9", "a/e\u0301", "Unicode normalisation twin (NFC/NFD)"),
        ("a/photo.jpg", "a/Photo.JPG", "case twin"),
        ("a/\u00c4.png", "a/\u00e4.png", "case twin"),
        ("a/b", "/a/b", "slash twin"),
        ("a/b", "a//b", "slash twin"),
        ("a/b", "a/b/", "slash twin"),
        ("a/b", "a\\b", "slash twin"),
        ("a/b", "./a/./b", "slash twin"),
        ("a/b", " a/b", "padding twin"),
        ("a/b", "a/b\n", "padding twin"),
        ("a/b", "a/\u200bb", "padding twin"),
        ("a/b", "a/b\u00a0", "padding twin"),
        ("a/b", "/A%2Fb ", "twin in several ways"),
        ("a/\u00e9", "a/e\u200b\u0301", "twin in several ways"),
    ],
)
def test_each_way_of_missing_has_its_name(con: duckdb.DuckDBPyConnection, key: str, other: str, form: str) -> None:
    first, second = loose(con, key, other)
    assert first == second
    for one, two in ((key, other), (other, key)):
        assert con.execute("SELECT near_miss_form(?, ?)", [one, two]).fetchone() == (form,)


@pytest.mark.parametrize(("key", "other"), [("a/b", "a/bc"), ("a/b", "ab"), ("a/1.pdf", "a/1.png"), ("a/b c", "a/bc")])
def test_other_keys_are_no_near_misses(con: duckdb.DuckDBPyConnection, key: str, other: str) -> None:
    first, second = loose(con, key, other)
    assert first != second


def test_bytes_that_are_no_text_are_left_as_they_are(con: duckdb.DuckDBPyConnection) -> None:
    assert loose(con, "a/%ff", "a/%FF.", "%zz") == ["a/%ff", "a/%ff.", "%zz"]
    rows = con.execute("SELECT loose_key(k) FROM (VALUES ('a%20b'), ('%ff'), ('c%20d')) t(k)").fetchall()
    assert rows == [("a b",), ("%ff",), ("c d",)]


ASCII = st.text(st.characters(min_codepoint=1, max_codepoint=127), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(key=ASCII)
def test_cheap_path_says_the_same_as_the_long_one(con: duckdb.DuckDBPyConnection, key: str) -> None:
    row = con.execute("SELECT loose_key($k), untangled_key($k)", {"k": key}).fetchone()
    assert row is not None
    assert row[0] == row[1]


# Letters of one case mapping; '%' apart, since a key may be decoded already.
LETTERS = st.sampled_from("abcXYZ019._-~!,;=@&#?*()'" + "\u00e9\u00fc\u0142\u03c3\u0436\u3042\U0001f600")
SEGMENT = st.text(LETTERS, min_size=1, max_size=5).filter(lambda s: s not in (".", ".."))
KEY = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)

WAYS: dict[str, Callable[[str], str]] = {
    "encoded": lambda k: quote(k),
    "encoded with slashes": lambda k: quote(k, safe=""),
    "encoded in lower case": lambda k: quote(k).lower(),
    "NFC": lambda k: unicodedata.normalize("NFC", k),
    "NFD": lambda k: unicodedata.normalize("NFD", k),
    "upper": str.upper,
    "lower": str.lower,
    "leading slash": lambda k: f"/{k}",
    "trailing slash": lambda k: f"{k}/",
    "doubled slashes": lambda k: k.replace("/", "//"),
    "backslashes": lambda k: k.replace("/", "\\"),
    "dot segments": lambda k: k.replace("/", "/./"),
    "blank before": lambda k: f" {k}",
    "newline behind": lambda k: f"{k}\r\n",
    "no-break space": lambda k: f"\u00a0{k}\u00a0",
    "zero-width space": lambda k: "\u200b".join(k) if "%" not in k else f"\u200b{k}",
}


@settings(max_examples=300, deadline=None)
@given(key=KEY, first=st.sampled_from(sorted(WAYS)), second=st.sampled_from(sorted(WAYS)))
def test_whatever_two_things_happened_to_a_key_it_is_recognised(
    con: duckdb.DuckDBPyConnection, key: str, first: str, second: str
) -> None:
    changed = WAYS[second](WAYS[first](key))
    before, after = loose(con, key, changed)
    assert before == after


@settings(max_examples=200, deadline=None)
@given(key=st.text(max_size=12).filter(lambda k: "\0" not in k and "%" not in k))
def test_loose_form_is_final(con: duckdb.DuckDBPyConnection, key: str) -> None:
    (once,) = loose(con, key)
    assert loose(con, once) == [once]


def test_folders_suffixes_and_tokens_of_a_key(con: duckdb.DuckDBPyConnection) -> None:
    row = con.execute("SELECT key_folders('a/b/c'), path_suffixes('a/b/c'), key_tokens('a/b.tar.gz')").fetchone()
    assert row == (["a/", "a/b/"], ["a/b/c", "b/c", "c"], ["a", "b.tar.gz", "b.tar", "b"])
    assert con.execute("SELECT key_folders('a'), path_suffixes('a'), key_tokens('a')").fetchone() == (
        [],
        ["a"],
        ["a", "a", "a"],
    )


@pytest.fixture(scope="module")
def apart(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    value_parts.install(con)
    return con


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=KEY)
def test_deep_key_holds_together_what_the_loose_one_does(apart: duckdb.DuckDBPyConnection, key: str) -> None:
    row = apart.execute("SELECT deep_key($k), deep_key(upper($k)), deep_key($q), list_contains(value_parts($k), $k)",
                        {"k": key, "q": quote(quote(quote(key)))}).fetchone()  # fmt: skip
    assert row is not None
    assert row[0] == row[1] == row[2]
    assert row[3]


def test_pieces_are_no_longer_than_a_key_can_be(apart: duckdb.DuckDBPyConnection) -> None:
    row = apart.execute("SELECT value_parts('a/' || repeat('x', 5000) || ',b')").fetchone()
    assert row == (["b"],)
