"""The one resolver, on any key at all."""

from urllib.parse import quote

import duckdb
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.support.resolving import SECRETS, URLS, declared, exact, lines

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
    assert {line["row_id"].partition("[")[0] for line in found} == {str(n) for n in range(len(values))}


def test_text_that_is_not_utf8_is_no_key_and_protects_one_that_looks_like_it(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    shown = "\ufffdcaf\\xe9.png"
    for form, key in (({"column": "v"}, shown), ({"template": "a/{v}"}, f"a/{shown}")):
        found = {(line["kind"], line["key"], line["value"]) for line in lines(connection, declared(form), shown)}
        assert found == {("unresolvable", None, None), ("undeclared", None, key)}
    assert exact(connection, declared({"column": "v"}), "caf\ufffd.png") == {("images", "caf\ufffd.png")}
