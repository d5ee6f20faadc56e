"""Bulk deletes as they go over the wire: the very keys, signed, each under its ETag; answers read strictly."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from xml.etree import ElementTree

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance_defs.stores.acting_s3_look import _before
from maintenance_defs.stores.s3 import S3Access, S3Store, s3_client
from maintenance_defs.stores.s3_bulk import BulkDelete, NoAnswer, Refusal, parse_answer

SPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
SECRET = "a secret"
Heard = list[tuple[str, dict[str, str], bytes]]


@pytest.fixture
def listener() -> Iterator[tuple[str, Heard]]:
    """A server that says that it did what it was asked, and what it heard."""
    heard: Heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<DeleteResult/>")

        def log_message(self, format: str, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()


def test_a_bulk_delete_names_the_very_keys_under_their_etags_and_is_signed(listener: tuple[str, Heard]) -> None:
    """I2, B07: and the signature covers the body, by the rules of SigV4, worked out here once more."""
    url, heard = listener
    access = S3Access("box", url, "eu-west-1", "path", "AK", SECRET)
    session = botocore.session.Session()
    s3_client(access, session, attempts=1)
    BulkDelete(S3Store(access, "box"), session)([("a&b<c>/ü 'x'.bin", "e1"), ("plain", None)])
    [(path, headers, body)] = heard
    assert path == "/box?delete"
    entries = [{field.tag: field.text for field in entry} for entry in ElementTree.fromstring(body)]
    assert entries == [
        {f"{SPACE}Key": "a&b<c>/ü 'x'.bin", f"{SPACE}ETag": '"e1"'},
        {f"{SPACE}Key": "plain"},
    ]
    said = dict(part.split("=", 1) for part in headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(", "))
    names = said["SignedHeaders"].split(";")
    assert {"host", "content-md5", "x-amz-content-sha256", "x-amz-date"} <= set(names)
    assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
    signed = "".join(f"{name}:{headers[name]}\n" for name in names)
    request = f"POST\n/box\ndelete=\n{signed}\n{';'.join(names)}\n{headers['x-amz-content-sha256']}"
    key_id, *scope = said["Credential"].split("/")
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{'/'.join(scope)}\n{digest}"
    key = f"AWS4{SECRET}".encode()
    for part in (*scope, text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    assert (key_id, said["Signature"], scope[1:]) == ("AK", key.hex(), ["eu-west-1", "s3", "aws4_request"])


@pytest.mark.parametrize("space", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'], ids=["bare", "named"])
def test_an_answer_is_read_key_by_key(space: str) -> None:
    """F09, F01: with or without namespace; only a marker that the server says it made is one."""
    body = f"""<?xml version="1.0"?><DeleteResult{space}>
        <Deleted><Key>a&amp;b</Key></Deleted>
        <Deleted><Key>c</Key><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>m1</DeleteMarkerVersionId></Deleted>
        <Deleted><Key>d</Key><DeleteMarkerVersionId>m2</DeleteMarkerVersionId></Deleted>
        <Error><Key>e</Key><Code>AccessDenied</Code><Message>with a secret</Message></Error>
        <Error><Key>f</Key><Code>no code!</Code></Error></DeleteResult>"""
    answer = parse_answer(200, body.encode())
    assert answer.deleted == {"a&b": None, "c": "m1", "d": None}
    assert answer.errors == {"e": "AccessDenied", "f": ""}


@pytest.mark.parametrize("body", [b"", b"<DeleteResult><Deleted>", b"<html></html>"])
def test_what_is_no_whole_answer_is_not_taken_for_one(body: bytes) -> None:
    with pytest.raises(NoAnswer):
        parse_answer(200, body)


@pytest.mark.parametrize(
    ("status", "body", "heard"),
    [
        (200, b"<Error><Code>InternalError</Code></Error>", (500, "InternalError")),
        (503, b"<Error><Code>SlowDown</Code></Error>", (503, "SlowDown")),
        (502, b"bad gateway", (502, "")),
        (403, b"<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>", (403, "")),
    ],
)
def test_a_refusal_is_one_whatever_it_looks_like(status: int, body: bytes, heard: tuple[int, str]) -> None:
    with pytest.raises(Refusal) as error:
        parse_answer(status, body)
    assert (error.value.status, error.value.code) == heard


@given(st.text(min_size=1), st.characters(codec="ascii", min_codepoint=0x20, max_codepoint=0x7E))
def test_a_range_begins_before_its_first_key_and_behind_its_neighbours(stem: str, last: str) -> None:
    """A listing from there shows the key itself; it does not begin a whole folder earlier."""
    key = stem + last
    after = _before(key)
    if after is not None:
        assert after < key
        assert after >= stem + chr(ord(last) - 1)
