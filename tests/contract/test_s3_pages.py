"""Pages as servers write them: keys come out byte for byte, and half a page never passes as a whole one."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maintenance_defs.stores.s3_pages import Garbled, parse_page

XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def an_object(key: str, size: str = "1", etag: str = "&quot;abc&quot;", at: str = "2026-01-02T03:04:05.678Z") -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{at}</LastModified><ETag>{etag}</ETag><Size>{size}</Size></Contents>"
    )


def a_page(*objects: str, encoded: bool = True, count: int | None = None, end: str = "false", more: str = "") -> bytes:
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult {XMLNS}><Name>b</Name><Prefix></Prefix>'
        f"<KeyCount>{len(objects) if count is None else count}</KeyCount><IsTruncated>{end}</IsTruncated>{more}"
        f"{''.join(objects)}{encoding}</ListBucketResult>"
    ).encode()


def keys(body: bytes) -> list[str]:
    return [str(key) for key in parse_page(body).batch["key"].to_pylist()]


ANY_KEYS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), min_size=1, max_size=5)


@settings(max_examples=300, deadline=None)
@given(ANY_KEYS, st.sampled_from([lambda key: quote(key, safe="/"), quote_plus, lambda key: quote(key, safe="")]))
def test_every_url_encoded_key_comes_out_exact(wanted: list[str], encode: object) -> None:
    assert keys(a_page(*(an_object(encode(key)) for key in wanted))) == wanted  # type: ignore[operator]  # one of three


@settings(max_examples=300, deadline=None)
@given(ANY_KEYS)
def test_every_key_in_character_references_comes_out_exact(wanted: list[str]) -> None:
    """A server that does not URL-encode, and writes references even for characters that XML forbids."""
    written = ["".join(f"&#x{ord(c):X};" if ord(c) < 32 else escape(c) for c in key) for key in wanted]
    assert keys(a_page(*map(an_object, written), encoded=False)) == wanted


def test_without_url_encoding_percent_and_plus_mean_themselves() -> None:
    assert keys(a_page(an_object("a%20b+c%41"), encoded=False)) == ["a%20b+c%41"]


@pytest.mark.parametrize(
    "written",
    [
        "<Contents><Size>7</Size><Key>k</Key><ETag>\"abc\"</ETag>"
        "<LastModified>2026-01-02T03:04:05.678Z</LastModified></Contents>",
        "<Contents>\n <Key>k</Key>\n <LastModified>2026-01-02T03:04:05.678Z</LastModified>\n"
        " <ETag>W/&quot;abc&quot;</ETag>\n <ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
        "<ChecksumType>FULL_OBJECT</ChecksumType><Size>7</Size></Contents>",
        "<Contents><Owner><ID>me</ID></Owner><Key><![CDATA[k]]></Key><LastModified>2026-01-02T03:04:05.678000Z"
        "</LastModified><ETag>abc</ETag><Size> 7 </Size></Contents>",
        "<Contents a='b'><Key>k</Key><LastModified>2026-01-02T04:04:05.678+01:00</LastModified><ETag>abc</ETag>"
        "<Size>7</Size></Contents>",
    ],
    ids=["order", "spaces-and-more", "cdata", "attribute-and-zone"],
)  # fmt: skip
def test_the_same_object_in_other_words_is_the_same(written: str) -> None:
    row = parse_page(a_page(written)).batch.to_pylist()[0]
    assert row == {
        "key": "k",
        "size_bytes": 7,
        "modified_at": datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
        "etag": "abc",
        "mark": None,
    }


def test_what_a_store_does_not_say_is_null() -> None:
    bare = "<Contents><Key>k</Key></Contents>"
    odd = an_object("l", "1", "", "yesterday")
    rows = parse_page(a_page(bare, odd)).batch.to_pylist()
    assert rows[0] | {"key": "l", "size_bytes": 1} == rows[1]
    assert (rows[0]["size_bytes"], rows[0]["modified_at"], rows[0]["etag"]) == (None, None, None)


def test_a_time_without_a_zone_is_unknown_not_guessed() -> None:
    assert parse_page(a_page(an_object("k", at="2026-01-02T03:04:05"))).batch["modified_at"].to_pylist() == [None]


def test_a_key_that_is_not_utf8_is_marked() -> None:
    rows = parse_page(a_page(an_object("a%FFb"), an_object("c"))).batch.to_pylist()
    assert [(row["key"], row["mark"]) for row in rows] == [("a\\xffb", "unaddressable"), ("c", None)]


def test_only_empty_objects_with_a_slash_at_the_end_are_markers() -> None:  # C16
    rows = parse_page(a_page(an_object("d/", "0"), an_object("e/", "1"), an_object("f", "0"))).batch.to_pylist()
    assert [row["mark"] for row in rows] == ["directory_marker", None, None]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "cut short"),
        (b"<html></html>", "not a ListBucketResult"),
        (a_page(an_object("k"))[:-1], "cut short"),
        (a_page(an_object("k"), an_object("l"))[:-60], "cut short"),
        (a_page(an_object("k"), count=2), "counts 2"),
        (a_page(an_object("k"), count=0), "counts 0"),
        (a_page("<Contents><Size>1</Size></Contents>"), "no key"),
        (a_page(an_object("k"), end=""), "whether more"),
        (a_page(an_object("k"), end="true"), "more pages follow"),
        (a_page(an_object("k"), more="<Delimiter>/</Delimiter>"), "another question"),
        (a_page(an_object("k"), more="<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"), "another question"),
        (a_page(an_object("a b")), "URL-encoded"),
        (a_page(an_object("é")), "URL-encoded"),
    ],
)
def test_a_page_that_cannot_be_the_whole_truth_is_not_taken(body: bytes, words: str) -> None:
    with pytest.raises(Garbled, match=words):
        parse_page(body)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_page_cut_anywhere_passes(data: st.DataObject) -> None:
    whole = a_page(*(an_object(f"in/{n}") for n in range(5)))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Garbled):
        parse_page(whole[:cut])
