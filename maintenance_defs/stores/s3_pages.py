"""ListObjectsV2 pages, read column-wise into Arrow with exact keys.

botocore signs; this module fetches, checks and parses, because botocore's parser needs 19 times
the CPU of the XML itself. A page is taken only when it is whole: complete XML, as many objects as
it counts, and a clear word on whether more pages follow.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc
import urllib3

from maintenance_defs.core.errors import IncompleteListing, StoreDenied, StoreUnavailable
from maintenance_defs.core.schemas import INVENTORY, UTC_US

PATIENCE_SECONDS = 120.0  # how long one page may fail before the listing is given up (F14)
LONGEST_WAIT_SECONDS = 20.0
GARBLED_ATTEMPTS = 3  # a page that makes no sense three times will not make sense the fourth time
TIMEOUT = urllib3.Timeout(connect=10, read=60)
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
BUSY_CODES = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling"})

# The order in which every S3 server seen so far writes an object. Whatever differs takes the slow way.
_QUOTE = rb'(?:&quot;|&#34;|")?'
_OBJECT = re.compile(
    rb"<Contents>\s*<Key>([^<]*)</Key>\s*<LastModified>([^<]*)</LastModified>\s*"
    rb"<ETag>(?:W/)?" + _QUOTE + rb'([^<&"]*)' + _QUOTE + rb"</ETag>\s*"
    rb"(?:<Checksum(?:Algorithm|Type)>[^<]*</Checksum(?:Algorithm|Type)>\s*)*<Size>(\d+)</Size>"
)
_ENTITY = re.compile(rb"&(?:#x([0-9A-Fa-f]+)|#([0-9]+)|(amp|lt|gt|quot|apos));")
_NAMED = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_PLAIN = re.compile(rb"[!-~]*")  # all that a URL-encoded key may consist of
_SIGNED = re.compile(r"(X-Amz-(?:Signature|Security-Token|Credential))=[^&\s\"']*")

Row = tuple[bytes, bytes | None, bytes | None, bytes | None]  # key, time, ETag, size, as the XML says them


class Garbled(Exception):
    """A page that cannot be the whole truth. The message says what is wrong with it."""


@dataclass(frozen=True)
class Page:
    batch: pa.RecordBatch  # INVENTORY
    token: str | None  # of the next page; None: the listing ends here


def read_pages(sign: Callable[[str | None], str], http: urllib3.PoolManager, what: str) -> Iterator[pa.RecordBatch]:
    """Every page of one listing, in the order of the store.

    sign: makes the URL of the page that a continuation token (None: the first) asks for.
    what: the store in words, for messages.
    Raises StoreDenied, StoreUnavailable when the store says no; IncompleteListing when it breaks off,
    contradicts itself, sends a token twice, or fails for longer than PATIENCE_SECONDS.
    Source: hazards A03, A14, C14, F14; speed_facts "Reading S3 pages exactly and fast".
    """
    token: str | None = None
    landmark: str | None = None  # a token seen earlier, renewed at 1, 2, 4, 8 … pages: finds any circle in no memory
    number = 0
    while True:
        page = _fetch(sign, token, http, f"{what}, page {number + 1}")
        yield page.batch
        if page.token is None:
            return
        if page.token in (token, landmark):
            raise IncompleteListing(
                f"{what} sent the continuation token of page {number + 1} before: its listing runs in a circle. "
                "Nothing was concluded from it; look for a proxy that repeats answers, or ask another endpoint of it."
            )
        token = page.token
        number += 1
        if number & (number - 1) == 0:
            landmark = token


def parse_page(body: bytes) -> Page:
    """One ListObjectsV2 answer. Raises Garbled when it is not a whole and consistent one."""
    first = body.find(b"<Contents>")
    last = body.rfind(b"</Contents>")
    count = body.count(b"<Contents>")
    frame = body if first < 0 else body[:first] + body[last + len(b"</Contents>") :]
    try:
        root = ElementTree.fromstring(frame)  # noqa: S314  # expat refuses entity bombs; the store is ours
    except ElementTree.ParseError as error:
        raise Garbled("the XML is cut short or broken") from error
    if _name(root) != "ListBucketResult":
        raise Garbled(f"the answer is a {_name(root)[:40]!r}, not a ListBucketResult")
    said = {_name(child): (child.text or "") for child in root}
    rows: list[Row] = _OBJECT.findall(body)
    if "Contents" in said:  # spelled in a way that the search above does not know
        rows = _parse_slowly(body)
        count = len(rows)
    elif len(rows) != count:
        rows = _parse_slowly(body)
    elif b"&" in body:
        rows = [(_unescape(key), time, etag, size) if b"&" in key else (key, time, etag, size)
                for key, time, etag, size in rows]  # fmt: skip
    _check(said, len(rows), count)
    token = said.get("NextContinuationToken") or None
    truncated = said.get("IsTruncated", "").strip().lower()
    if truncated not in ("true", "false"):
        raise Garbled("it does not say whether more pages follow")
    if truncated == "true" and token is None:
        raise Garbled("it says that more pages follow, and not how to ask for them")
    # A token beside IsTruncated=false is a contradiction; to follow it can only find more.
    return Page(_batch(rows, encoded=said.get("EncodingType") == "url"), token)


def _check(said: dict[str, str], rows: int, count: int) -> None:
    counted = said.get("KeyCount", "").strip()
    if rows != count or (counted and counted != str(rows)):
        raise Garbled(f"it counts {counted or count} objects and holds {rows}")
    if said.get("Prefix") or said.get("Delimiter") or "CommonPrefixes" in said:
        raise Garbled("it answers another question: a prefix or delimiter that nobody asked for")


def _parse_slowly(body: bytes) -> list[Row]:
    """Objects whose elements come in another order, or lack some. Exact, at a third of the speed."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError as error:
        raise Garbled("the XML is cut short or broken") from error
    rows: list[Row] = []
    for item in root:
        if _name(item) == "Contents":
            fields = {_name(child): (child.text or "").encode() for child in item}
            if "Key" not in fields:
                raise Garbled("an object has no key")
            etag = fields.get("ETag", b"").removeprefix(b"W/").strip(b'"')
            rows.append((fields["Key"], fields.get("LastModified"), etag, fields.get("Size")))
    return rows


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _unescape(text: bytes) -> bytes:
    """XML's own entities; also those of characters that XML forbids and some servers send all the same."""

    def one(found: re.Match[bytes]) -> bytes:
        if found[3]:
            return _NAMED[found[3]]
        try:
            return chr(int(found[1], 16) if found[1] else int(found[2])).encode()
        except (ValueError, OverflowError, UnicodeEncodeError) as error:
            raise Garbled("a key holds an impossible character reference") from error

    return _ENTITY.sub(one, text)


def _batch(rows: list[Row], *, encoded: bool) -> pa.RecordBatch:
    if not rows:
        return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in INVENTORY], schema=INVENTORY)
    raw, times, etags, sizes = zip(*rows, strict=True)
    joined = b"".join(raw)
    if encoded:
        if _PLAIN.fullmatch(joined) is None:
            raise Garbled("it says that its keys are URL-encoded, and they are not")
        if b"%" in joined or b"+" in joined:
            raw = tuple(unquote_to_bytes(key.replace(b"+", b" ")) if b"%" in key or b"+" in key else key for key in raw)
    try:
        key = pa.array(raw, pa.binary()).cast(pa.string())
        unaddressable = None
    except pa.ArrowInvalid:  # some key is not UTF-8: no client can ask for it
        shown = [name.decode("utf-8", "backslashreplace") for name in raw]
        key = pa.array(shown, pa.string())
        unaddressable = pa.array([text.encode() != name for text, name in zip(shown, raw, strict=True)])
    size = _integers(sizes)
    marker = pc.and_(pc.ends_with(key, "/"), pc.fill_null(pc.equal(size, 0), False))
    mark = pc.if_else(marker, pa.scalar("directory_marker"), pa.scalar(None, pa.string()))
    if unaddressable is not None:
        mark = pc.if_else(unaddressable, pa.scalar("unaddressable"), mark)
    etag = pa.array(etags, pa.binary()).cast(pa.string())
    etag = pc.if_else(pc.equal(etag, ""), pa.scalar(None, pa.string()), etag)
    return pa.RecordBatch.from_arrays([key, size, _instants(times), etag, mark], schema=INVENTORY)


def _integers(texts: tuple[bytes | None, ...]) -> pa.Array:
    try:
        return pa.array(texts, pa.binary()).cast(pa.string()).cast(pa.int64())
    except pa.ArrowInvalid:
        return pa.array([int(text) if text and text.strip().isdigit() else None for text in texts], pa.int64())


def _instants(texts: tuple[bytes | None, ...]) -> pa.Array:
    """UTC microseconds; null where the store says no time or none that can be read (never old, I3)."""
    try:
        return pa.array(texts, pa.binary()).cast(pa.string()).cast(UTC_US)
    except pa.ArrowInvalid:
        return pa.array([_instant(text) for text in texts], UTC_US)


def _instant(text: bytes | None) -> datetime | None:
    try:
        found = datetime.fromisoformat((text or b"").decode().strip())
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else None


def _fetch(sign: Callable[[str | None], str], token: str | None, http: urllib3.PoolManager, what: str) -> Page:
    """One page, tried again while the store is busy. Raises as `read_pages`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    attempt = garbled = 0
    while True:
        attempt += 1
        asked = 0.0  # how long the store asks us to wait
        try:
            # Signed anew each time: a signature is short-lived, and credentials may have been renewed.
            answer = http.request("GET", sign(token), retries=False, redirect=False, timeout=TIMEOUT)
        except urllib3.exceptions.HTTPError as error:
            trouble = type(error).__name__  # its text may hold the signed URL
        else:
            code = _error_code(answer.data)
            if answer.status == 200 and code is None:
                try:
                    return parse_page(answer.data)
                except Garbled as error:
                    trouble = str(error)
                    garbled += 1
            elif answer.status in BUSY or code in BUSY_CODES:
                trouble = f"{answer.status} {code or ''}".strip()
                asked = _retry_after(answer.headers.get("Retry-After"))
            else:
                raise refusal(what, answer.status, code, answer.headers.get("x-amz-bucket-region"))
        wait = max(asked, random.uniform(0, min(LONGEST_WAIT_SECONDS, 0.1 * 2**attempt)))  # noqa: S311  # jitter
        if garbled >= GARBLED_ATTEMPTS or time.monotonic() + wait > deadline:
            raise IncompleteListing(
                f"The listing of {what} broke off after {attempt} attempts: {trouble}. "
                "Nothing was concluded from the pages before it; run it again.",
                transient=True,
            ) from None
        time.sleep(wait)


def refusal(what: str, status: int, code: str | None, region: str | None = None) -> StoreUnavailable:
    """The error for an answer that trying again will not change. `code` is S3's error code."""
    said = f"{status} {code or ''}".strip()
    if code == "RequestTimeTooSkewed":
        return StoreDenied(f"{what} answered {said}: this machine's clock is wrong. Nothing was read; set the clock.")
    if status in (401, 403) or code in ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId"):
        return StoreDenied(
            f"{what} answered {said}: the credentials may not do this. Nothing was read; check the variables "
            "that the store's credentials name, and that they may list the bucket."
        )
    if status in (301, 307, 308):
        where = f" It is in region {region}." if region else ""
        return StoreUnavailable(
            f"{what} answered {said}: it lives elsewhere.{where} Nothing was read; correct its URL."
        )
    if status == 404 and code in (None, "", "NoSuchBucket"):
        return StoreUnavailable(f"{what} answered {said}: there is no such bucket. Nothing was read; check its URL.")
    busy = status in BUSY
    what_next = "run it again when its server is well" if busy else "check the store's URL, and what its server logs"
    return StoreUnavailable(f"{what} answered {said}. Nothing was read; {what_next}.", transient=busy)


def _error_code(body: bytes) -> str | None:
    """S3's word for what went wrong; None where the body is no S3 error. Only the code: the rest may hold secrets."""
    if b"<Error" not in body[:300]:
        return None
    found = re.search(rb"<Code>\s*([A-Za-z0-9.]{1,60})\s*</Code>", body)
    return found[1].decode() if found else "Error"


def _retry_after(header: str | None) -> float:
    return float(header) if header and header.isdigit() else 0.0


def _hide_signature(record: logging.LogRecord) -> bool:
    """urllib3 logs paths at DEBUG, and a signed path lets whoever reads it list the bucket for minutes."""
    if isinstance(record.args, tuple):
        record.args = tuple(_SIGNED.sub(r"\1=…", arg) if isinstance(arg, str) else arg for arg in record.args)
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_hide_signature)
