"""The one resolver: keys, templates, paths, folders, texts, JSON and lists."""

import duckdb
import pyarrow as pa
import pytest

from maintenance_defs.core.errors import DeclarationError
from maintenance_defs.core.resolve import resolve, rows_schema
from tests.support.resolving import BOTH, STORES, declared, exact, lines


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
    found = resolve(connection, reference, STORES, rows).to_arrow_table().to_pylist()
    assert [line["row_id"] for line in found] == ["r[1]", "r[2]"]
    assert {(line["size_bytes"], line["in_progress"]) for line in found} == {(7, True)}


LISTS = [
    ({"array": "k"}, '["a", "b"]', ["0[1] a", "0[2] b"]),
    ({"array": "k"}, '["a"]', ["0[1] a"]),
    ({"array": "k", "separator": ","}, "a, b", ["0[1] a", "0[2] b"]),
    ({"array": "k", "separator": ","}, " , ", ["0 None"]),
    ({"array": "k"}, None, ["0 None"]),
    ({"json": "m", "at": "$[*].key"}, '[{"key": "a"}, {"key": ["b", "c"]}]', ["0[1] a", "0[2] b", "0[3] c"]),
    ({"json": "m", "at": "$.key"}, '{"key": ["a", ["b"]]}', ["0[1] a", "0[2] b"]),
    ({"json": "m", "at": "$.key"}, '{"key": {"big": "a", "small": "b"}}', ["0 None", "0[1] a", "0[2] b"]),
    ({"json": "m", "at": "$.key"}, '{"key": "a"}', ["0 a"]),
    ({"array": "k", "form": "url"}, '["s3://images/a#1.png", "s3://images/b"]', ["0[1] a", "0[1] a#1.png", "0[2] b"]),
]  # fmt: skip


@pytest.mark.parametrize(("form", "value", "expected"), LISTS, ids=str)
def test_each_value_of_a_list_is_an_item_with_its_own_readings(
    connection: duckdb.DuckDBPyConnection, form: dict[str, str], value: str | None, expected: list[str]
) -> None:
    found = lines(connection, declared(form), value)
    assert sorted(f"{line['row_id']} {line['key']}" for line in found) == expected
