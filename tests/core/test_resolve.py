"""The one resolver: every spelling that a value may have, and what it must never give away."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from maintenance_defs.core.declaration import Reference
from maintenance_defs.core.errors import DeclarationError
from maintenance_defs.core.resolve import StoreNames, prepare, resolve, rows_schema

STORES = (
    StoreNames("videos", ("videos",)),
    StoreNames(
        "images",
        ("images",),
        ("https://pub-0a1b.r2.dev/", "https://cdn.example.org/base/", "http://minio.local:9000/images/"),
    ),
    StoreNames("archive", ("Archive.Old",)),
)
OBJECT_URL = "https://abcdefgh.supabase.co/storage/v1/object"
LINE = ("store", "key", "kind", "value", "reason")


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        prepare(con)
        yield con


def declared(form: dict[str, Any], store: str | list[str] = "images") -> Reference:
    return Reference.model_validate({"table": "t", "id": "id", "store": store, "object": form, "protects_only": True})


def lines(con: duckdb.DuckDBPyConnection, reference: Reference, *rows: Any) -> list[dict[str, Any]]:
    """What rows of the reference's columns resolve to; a row is a value or a tuple of them."""
    listed = [
        {"row_id": str(n), **{f"v{i}": v for i, v in enumerate(row if isinstance(row, tuple) else (row,))}}
        for n, row in enumerate(rows)
    ]
    given_rows = pa.Table.from_pylist(listed, schema=rows_schema(reference))
    found: list[dict[str, Any]] = resolve(con, reference, STORES, given_rows).to_arrow_table().to_pylist()
    return found


def exact(con: duckdb.DuckDBPyConnection, reference: Reference, *rows: Any) -> set[tuple[str, str]]:
    return {(line["store"], line["key"]) for line in lines(con, reference, *rows) if line["kind"] == "exact"}


BOTH = ["videos", "images"]
URLS = {
    # S1-9, C03
    f"{OBJECT_URL}/sign/videos/a/b.mp4?token=t": ("videos", "a/b.mp4"),
    f"{OBJECT_URL}/public/images/a%20b.png": ("images", "a b.png"),
    f"{OBJECT_URL}/authenticated/videos/x.mp4": ("videos", "x.mp4"),
    f"{OBJECT_URL}/videos/x.mp4": ("videos", "x.mp4"),
    f"{OBJECT_URL}/public/images/x.png?download=": ("images", "x.png"),
    f"{OBJECT_URL}/upload/sign/images/x.png?token=t": ("images", "x.png"),
    "https://abc.supabase.co/storage/v1/render/image/public/images/x.png?width=300": ("images", "x.png"),
    "https://abc.supabase.co/storage/v1/render/image/sign/images/x.png?token=t&width=3": ("images", "x.png"),
    "https://abc.supabase.co/storage/v1/s3/videos/x.mp4": ("videos", "x.mp4"),
    "https://files.example.com/storage/v1/object/public/images/x.png": ("images", "x.png"),
    "/storage/v1/object/public/images/x.png": ("images", "x.png"),
    # C02
    "https://s3.amazonaws.com/images/a/b.png": ("images", "a/b.png"),
    "https://s3.amazonaws.com:443/images/a/b.png": ("images", "a/b.png"),
    "HTTPS://S3.EU-West-1.amazonaws.com/images/A.png": ("images", "A.png"),
    "https://s3-eu-west-1.amazonaws.com/images/a.png": ("images", "a.png"),
    "https://s3.dualstack.eu-west-1.amazonaws.com/images/a.png": ("images", "a.png"),
    "https://images.s3.amazonaws.com/a/b.png": ("images", "a/b.png"),
    "https://images.s3.eu-west-1.amazonaws.com/a.png?X-Amz-Signature=f00&X-Amz-Credential=x": ("images", "a.png"),
    "https://images.s3-us-west-2.amazonaws.com/a.png": ("images", "a.png"),
    "https://images.s3.dualstack.us-west-2.amazonaws.com/a.png": ("images", "a.png"),
    "https://images.s3-accelerate.amazonaws.com/a.png": ("images", "a.png"),
    "https://images.s3.cn-north-1.amazonaws.com.cn/a.png": ("images", "a.png"),
    "https://images.s3.amazonaws.com//a.png": ("images", "/a.png"),
    "https://user:secret@images.s3.amazonaws.com/a.png": ("images", "a.png"),
    "https://acct.r2.cloudflarestorage.com/images/a.png": ("images", "a.png"),
    "https://acct.eu.r2.cloudflarestorage.com/images/a.png": ("images", "a.png"),
    "https://images.acct.r2.cloudflarestorage.com/a.png": ("images", "a.png"),
    "https://images.acct.eu.r2.cloudflarestorage.com/a.png": ("images", "a.png"),
    "http://minio.local:9000/images/a.png": ("images", "a.png"),
    "s3://images/a/b.png": ("images", "a/b.png"),
    "S3://images/a/b.png": ("images", "a/b.png"),
    "s3a://images/a/b.png": ("images", "a/b.png"),
    # C04
    "https://pub-0a1b.r2.dev/a/b.png": ("images", "a/b.png"),
    "https://cdn.example.org/base/a%2Fb.png?v=3#top": ("images", "a/b.png"),
    "//cdn.example.org/base/a.png": ("images", "a.png"),
    "https://CDN.example.org:443/base/a.png": ("images", "a.png"),
    # C05
    "gs://images/a.png": ("images", "a.png"),
    "https://storage.googleapis.com/images/a/b.png": ("images", "a/b.png"),
    "https://images.storage.googleapis.com/a/b.png": ("images", "a/b.png"),
    "https://storage.cloud.google.com/images/a.png": ("images", "a.png"),
    "https://storage.googleapis.com/storage/v1/b/images/o/a%2Fb.png?alt=media": ("images", "a/b.png"),
    "https://firebasestorage.googleapis.com/v0/b/images/o/a%2Fb.png?alt=media&token=t": ("images", "a/b.png"),
    "https://acct.blob.core.windows.net/images/a/b.png?sv=2024&sig=s3cr3t": ("images", "a/b.png"),
    "az://acct/images/a/b.png": ("images", "a/b.png"),
    "az://images/a/b.png": ("images", "a/b.png"),
    "abfss://images@acct.dfs.core.windows.net/a/b.png": ("images", "a/b.png"),
    # C07 and what people forget to encode
    "https://pub-0a1b.r2.dev/a b.png": ("images", "a b.png"),
    "https://pub-0a1b.r2.dev/caf%C3%A9.png": ("images", "café.png"),
    "https://pub-0a1b.r2.dev/a%2520b.png": ("images", "a%20b.png"),
    "https://pub-0a1b.r2.dev/a+b.png": ("images", "a+b.png"),
    "https://pub-0a1b.r2.dev/100%.png": ("images", "100%.png"),
    "https://pub-0a1b.r2.dev/%FF.png": ("images", "%FF.png"),
    "https://pub-0a1b.r2.dev/a%23b%3Fc.png": ("images", "a#b?c.png"),
}


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
    "ftp://images/a.png": ("unresolvable", None, "no store has URLs of scheme ftp"),
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


SECRETS = [
    f"{OBJECT_URL}/sign/videos/a.mp4?token=SECRET",
    f"{OBJECT_URL}/sign/other/a.mp4?token=SECRET.png",
    "https://elsewhere.example/a.png?sig=SECRET&x=1",
    "https://u:SECRET@elsewhere.example/a.png",
    "https://u:SECRET@images.s3.amazonaws.com/a.png",
    "not-a-url?token=SECRET",
    "user:SECRET@host/path",
    "images/a.png?X-Amz-Signature=SECRET",
    "data:text/plain,SECRET",
    "see https://pub-0a1b.r2.dev/a.png?token=SECRET, and https://else.example/b?token=SECRET.",
]


@pytest.mark.parametrize("form", ["url", "path", "text", "prefix"])
def test_no_query_or_password_reaches_an_output(connection: duckdb.DuckDBPyConnection, form: str) -> None:
    for line in lines(connection, declared({form: "u"}), *SECRETS):
        if form in ("path", "prefix") and line["row_id"] in ("5", "6", "9"):
            continue  # without scheme and signature these are keys like any other
        assert "SECRET" not in f"{[line[name] for name in LINE]}"


def test_url_in_a_key_column_is_unresolvable_and_loses_its_query(connection: duckdb.DuckDBPyConnection) -> None:
    (line,) = lines(connection, declared({"column": "u"}), "https://cdn/x/a%20b.mp4?token=SECRET")
    assert (line["kind"], line["value"]) == ("unresolvable", "x/a b.mp4")


# C01
@pytest.mark.parametrize("value", ["a/b.png", "images/a/b.png", "/images/a/b.png", "/a/b.png", "s3://images/a/b.png"])
def test_every_spelling_of_a_path_names_its_object(connection: duckdb.DuckDBPyConnection, value: str) -> None:
    found = exact(connection, declared({"path": "p"}), value)
    assert ("images", "a/b.png") in found
    if "://" not in value:
        assert ("images", value) in found  # a key may begin with '/' or with the bucket's name


# C21
def test_path_without_bucket_refers_to_every_declared_store(connection: duckdb.DuckDBPyConnection) -> None:
    assert exact(connection, declared({"path": "p"}, BOTH), "a.png") == {("images", "a.png"), ("videos", "a.png")}


def test_path_is_not_percent_decoded(connection: duckdb.DuckDBPyConnection) -> None:
    assert exact(connection, declared({"path": "p"}), "a%20b.png") == {("images", "a%20b.png")}


def test_column_is_the_key_byte_for_byte(connection: duckdb.DuckDBPyConnection) -> None:
    values = ["a%20b.png", " a ", "/a//b/", "é", "e\u0301", "a\nb", "x\u200by", "\\", "'", "a?b=c", "00042"]
    found = lines(connection, declared({"column": "k"}), *values)
    assert [line["key"] for line in found] == values
    assert [line["key"] for line in found if line["dirty"]] == [" a ", "x\u200by"]


# D04
def test_null_empty_and_the_word_null_are_no_keys(connection: duckdb.DuckDBPyConnection) -> None:
    for form in ("column", "url", "path", "prefix", "token", "text"):
        found = lines(connection, declared({form: "k"}), None, "", "null")
        assert {line["row_id"] for line in found if line["kind"] == "no_key"} == {"0", "1", "2"}, form
        assert {line["kind"] for line in found} <= {"no_key", "undeclared"}, form


def test_template_is_filled_and_a_null_in_it_is_no_key(connection: duckdb.DuckDBPyConnection) -> None:
    reference = declared({"template": "reports/{delivery_id}/{id}.{file_type}"})
    found = lines(connection, reference, ("d1", "a1", "pdf"), ("d1", None, "pdf"), ("d1", "", "pdf"), ("d1 ", "a", "x"))
    assert [(line["row_id"], line["kind"], line["key"]) for line in found[:2]] == [
        ("0", "exact", "reports/d1/a1.pdf"),
        ("1", "no_key", None),
    ]
    assert {(line["kind"], line["value"]) for line in found if line["row_id"] == "2"} == {
        ("no_key", None),
        ("undeclared", "reports/d1/.pdf"),  # should it exist after all, nobody calls it an orphan
    }
    padded = {line["key"] for line in found if line["row_id"] == "3"}
    assert padded == {"reports/d1 /a.x", "reports/d1/a.x"}


@pytest.mark.parametrize(
    ("value", "folders"),
    [
        ("processed/1", {"processed/1/"}),
        ("processed/1/", {"processed/1/"}),
        ("https://images.s3.amazonaws.com/processed/1", {"processed/1/"}),
        ("/images/processed/1/", {"processed/1/", "images/processed/1/", "/images/processed/1/"}),
    ],
)
def test_prefix_is_a_whole_folder(connection: duckdb.DuckDBPyConnection, value: str, folders: set[str]) -> None:
    found = lines(connection, declared({"prefix": "p"}), value)
    assert {(line["kind"], line["store"], line["value"]) for line in found} == {
        ("prefix", "images", f) for f in folders
    }


@pytest.mark.parametrize("value", ["/", "s3://images/", "s3://images"])
def test_prefix_that_names_the_whole_store_is_unresolvable(connection: duckdb.DuckDBPyConnection, value: str) -> None:
    assert {line["kind"] for line in lines(connection, declared({"prefix": "p"}), value)} == {"unresolvable"}


# C19
TEXTS = {
    "![cat](https://pub-0a1b.r2.dev/cat.png)": {"cat.png"},
    "![cat](https://pub-0a1b.r2.dev/cat(1).png 'a title')": {"cat(1).png"},
    '<img src="https://pub-0a1b.r2.dev/a&amp;b.png"><a href="https://pub-0a1b.r2.dev/c.pdf">c</a>': {
        "a&b.png",
        "c.pdf",
    },
    "<img src='https://pub-0a1b.r2.dev/d&#39;e.png'>": {"d'e.png"},
    '<img src="//cdn.example.org/base/e.png">': {"e.png"},
    '<img src="/storage/v1/object/public/images/f.png?width=3">': {"f.png"},
    '<img src="https://pub-0a1b.r2.dev/with blank.png">': {"with blank.png"},
    r'{"u": "https:\/\/pub-0a1b.r2.dev\/caf\u00e9.png"}': {"café.png"},
    r'{"html": "<img src=\"https:\/\/pub-0a1b.r2.dev\/g&amp;h.png\">"}': {"g&h.png"},
    "Look: https://pub-0a1b.r2.dev/h.png, or (https://pub-0a1b.r2.dev/i.png). s3://images/j.png!": {
        "h.png",
        "i.png",
        "j.png",
    },
    "https://pub-0a1b.r2.dev/k.png,https://pub-0a1b.r2.dev/l.png;s3://images/m.png": {"k.png", "l.png", "m.png"},
    "url('https://pub-0a1b.r2.dev/n.png')": {"n.png"},
    "/_next/image?url=https%3A%2F%2Fpub-0a1b.r2.dev%2Fo%2520p.png&w=640": {"o p.png"},
    "https://proxy.example/fit/https://pub-0a1b.r2.dev/q.png": {"q.png"},
    "| https://pub-0a1b.r2.dev/r.png | [s](https://pub-0a1b.r2.dev/s.png) |": {"r.png", "s.png"},
}


@pytest.mark.parametrize(("text", "keys"), TEXTS.items(), ids=list(TEXTS))
def test_every_link_of_a_text_is_found(connection: duckdb.DuckDBPyConnection, text: str, keys: set[str]) -> None:
    assert keys <= {key for _, key in exact(connection, declared({"text": "body"}), text)}


def test_text_tells_each_foreign_link_once_and_nothing_of_plain_words(connection: duckdb.DuckDBPyConnection) -> None:
    text = declared({"text": "body"})
    foreign = "see (https://example.com/a), <https://example.com/b?x=1> // no link"
    found = lines(connection, text, foreign)
    assert sorted((line["kind"], line["value"]) for line in found) == [("external", "a"), ("external", "b")]
    assert lines(connection, text, "only words: a/b.png, 1//2") == []


# D01, D11
JSON = {
    ("$.key", '{"key": "a"}'): {"a"},
    ("$.key", '{"key": ["a", ["b", ["c"]], null, true]}'): {"a", "b", "c"},
    ("$.files[*].key", '{"files": [{"key": "a"}, {"key": "b"}, {"other": 1}]}'): {"a", "b"},
    ("$..key", '{"key": "a", "deep": {"key": ["b", {"key": "c"}]}}'): {"a", "b", "c"},
    ("$[*]", '["a", "b/\\u00e9"]'): {"a", "b/é"},
    ("$.key", '"{\\"key\\": \\"a\\"}"'): {"a"},  # stored as a JSON string once more
    ("$.id", '{"id": 42}'): {"42"},
}


@pytest.mark.parametrize(("path_and_value", "keys"), JSON.items(), ids=map(str, JSON))
def test_values_inside_json_are_found_at_every_depth(
    connection: duckdb.DuckDBPyConnection, path_and_value: tuple[str, str], keys: set[str]
) -> None:
    at, value = path_and_value
    assert {key for _, key in exact(connection, declared({"json": "m", "at": at}), value)} == keys


@pytest.mark.parametrize("at", ["$.key", "$.files[*].key", "$[*]"])
@pytest.mark.parametrize("value", [None, "", " ", "null", "{}", '{"key": null}', "[]", "7"])
def test_json_without_value_is_no_key(connection: duckdb.DuckDBPyConnection, at: str, value: str | None) -> None:
    (line,) = lines(connection, declared({"json": "m", "at": at}), value)
    assert line["kind"] == "no_key"


def test_broken_json_is_unresolvable_and_the_other_rows_are_read(connection: duckdb.DuckDBPyConnection) -> None:
    found = lines(connection, declared({"json": "m", "at": "$.key"}), '{"key": "a"}', '{"key": "b"', '{"key": "c"}')
    assert [(line["kind"], line["key"], line["reason"]) for line in found] == [
        ("exact", "a", None),
        ("unresolvable", None, "not valid JSON"),
        ("exact", "c", None),
    ]


def test_object_where_a_text_should_be_is_told_and_its_texts_protect(connection: duckdb.DuckDBPyConnection) -> None:
    found = lines(connection, declared({"json": "m", "at": "$.file"}), '{"file": {"name": "a"}}')
    assert {(line["kind"], line["key"]) for line in found} == {("exact", "a"), ("unresolvable", None)}


def test_json_path_that_is_none_is_a_declaration_error(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(DeclarationError, match="is no JSON path"):
        lines(connection, declared({"json": "m", "at": "$.["}), "{}")


# D02
@pytest.mark.parametrize(
    ("form", "value", "keys"),
    [
        ({}, '["a", "b c", null]', {"a", "b c"}),
        ({}, '["a,b", "\\"c"]', {"a,b", '"c'}),
        ({"separator": ","}, "a, b,,c ,", {"a", "b", "c"}),
        ({"separator": "\n"}, "a\r\nb\n", {"a", "b"}),
    ],
)
def test_every_value_of_a_list_is_found(
    connection: duckdb.DuckDBPyConnection, form: dict[str, str], value: str, keys: set[str]
) -> None:
    assert {key for _, key in exact(connection, declared({"array": "k"} | form), value)} == keys


def test_empty_list_is_no_key_and_no_list_is_unresolvable(connection: duckdb.DuckDBPyConnection) -> None:
    found = lines(connection, declared({"array": "k"}), "[]", None, "[null]", "{a,b}")
    assert [line["kind"] for line in found] == ["no_key", "no_key", "no_key", "unresolvable"]


def test_form_reads_each_value_of_a_list(connection: duckdb.DuckDBPyConnection) -> None:
    reference = declared({"array": "k", "form": "url"})
    assert exact(connection, reference, '["s3://images/a%20b", "https://pub-0a1b.r2.dev/c"]') == {
        ("images", "a b"),
        ("images", "c"),
    }


def test_columns_of_the_row_go_with_every_line(connection: duckdb.DuckDBPyConnection) -> None:
    reference = declared({"array": "k"})
    rows = pa.Table.from_pylist(
        [{"row_id": "r", "v0": '["a", "b"]', "size_bytes": 7, "in_progress": True}], schema=rows_schema(reference)
    )
    for line in resolve(connection, reference, STORES, rows).to_arrow_table().to_pylist():
        assert (line["row_id"], line["size_bytes"], line["in_progress"]) == ("r", 7, True)


# Any key at all: S3 takes every UTF-8 text of up to 1024 bytes.
KEYS = st.lists(
    st.one_of(
        st.sampled_from("abc/ .%+#?&=;:@!$'()*,[]<>\"\\{}|^`~\t\n\r\u200b\u00a0é\u0301日😀"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        st.sampled_from(["%41", "%2F", "%25", "&amp;", "..", "//"]),
    ),
    min_size=1,
    max_size=40,
).map("".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(KEYS, min_size=1, max_size=8))
def test_encoded_url_of_any_key_resolves_to_exactly_that_key(
    connection: duckdb.DuckDBPyConnection, keys: list[str]
) -> None:
    urls, expected = [], []
    for key in keys:
        path, whole = quote(key, safe="/"), quote(key, safe="")
        for url in (
            f"https://images.s3.eu-west-1.amazonaws.com/{path}",
            f"https://s3.amazonaws.com/images/{path}?X-Amz-Signature=0",
            f"s3://images/{path}",
            f"gs://images/{path}",
            f"https://acct.r2.cloudflarestorage.com/images/{path}",
            f"https://acct.blob.core.windows.net/images/{path}?sig=0",
            f"https://storage.googleapis.com/images/{path}",
            f"https://firebasestorage.googleapis.com/v0/b/images/o/{whole}?alt=media",
            f"https://abc.supabase.co/storage/v1/object/sign/images/{path}?token=0",
            f"https://cdn.example.org/base/{path}",
        ):
            urls.append(url)
            expected.append(key)
    found = lines(connection, declared({"url": "u"}), *urls)
    assert [(line["store"], line["key"]) for line in found] == [("images", key) for key in expected]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(KEYS, min_size=1, max_size=20))
def test_any_key_in_a_column_or_path_is_protected_as_it_is(
    connection: duckdb.DuckDBPyConnection, keys: list[str]
) -> None:
    assume(not any("://" in key for key in keys))
    for form in ("column", "path"):
        found = lines(connection, declared({form: "k"}), *keys)
        for n, key in enumerate(keys):
            kinds = {(line["kind"], line["key"] or line["value"]) for line in found if line["row_id"] == str(n)}
            named_null = {("no_key", None), ("undeclared", key)} if form == "column" else {("no_key", None)}
            assert ("exact", key) in kinds or kinds == named_null


VALUES = st.one_of(KEYS, st.sampled_from(list(URLS)), st.sampled_from(SECRETS), st.none(), st.sampled_from(["{", "[]"]))
FORMS = [
    {"column": "k"}, {"url": "k"}, {"path": "k"}, {"prefix": "k"}, {"token": "k"}, {"template": "a/{k}"},
    {"array": "k"}, {"array": "k", "separator": ","},
    {"json": "k", "at": "$.a"}, {"json": "k", "at": "$[*]", "form": "url"},
]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(VALUES, min_size=1, max_size=8), form=st.sampled_from(FORMS))
def test_no_row_is_ever_lost(
    connection: duckdb.DuckDBPyConnection, values: list[str | None], form: dict[str, str]
) -> None:
    found = lines(connection, declared(form), *values)
    assert {line["row_id"] for line in found} == {str(n) for n in range(len(values))}


def test_text_that_is_not_utf8_is_no_key_and_protects_one_that_looks_like_it(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    shown = "\ufffdcaf\\xe9.png"
    for form, key in (({"column": "v"}, shown), ({"template": "a/{v}"}, f"a/{shown}")):
        found = {(line["kind"], line["key"], line["value"]) for line in lines(connection, declared(form), shown)}
        assert found == {("unresolvable", None, None), ("undeclared", None, key)}
    assert exact(connection, declared({"column": "v"}), "caf\ufffd.png") == {("images", "caf\ufffd.png")}
