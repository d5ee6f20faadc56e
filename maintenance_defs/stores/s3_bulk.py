"""DeleteObjects, written and read here: botocore needs ten times the CPU for its XML.

botocore says where the bucket is, and signs, the body included. One request is sent once; whoever asks again must
look first.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import botocore.session
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import NoCredentialsError

from maintenance_defs.stores import s3

_BEGIN, _END = '<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">', "</Delete>"
_CODE = re.compile(r"[A-Za-z0-9]{1,60}")


class Refusal(Exception):
    """The server says no to the whole request: HTTP status, and S3's code where it says one."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}".strip())
        self.status, self.code = status, code


class NoAnswer(Exception):
    """No whole answer, so it may have been done; the message names the kind of trouble and nothing of the request."""


@dataclass(frozen=True)
class Answer:
    """What the server says of each key that it names.

    deleted: key -> the delete marker that was made, where it made one. errors: key -> S3's code, or "".
    """

    deleted: dict[str, str | None]
    errors: dict[str, str]


class BulkDelete:
    """Sends bulk deletes to one bucket."""

    def __init__(self, reading: s3.S3Store, session: botocore.session.Session) -> None:
        """session: whose credentials sign. Raises what botocore raises when it cannot say where the bucket is."""
        self._http, self._session = reading.http, session
        self._region = reading.client.meta.region_name
        listed = reading.client.generate_presigned_url("list_objects_v2", {"Bucket": reading.access.bucket})
        self._url = listed.partition("?")[0] + "?delete"

    def __call__(self, entries: Sequence[tuple[str, str | None]]) -> Answer:
        """entries: keys, with the ETag that the object must still have, or None.

        Raises Refusal, NoAnswer; BotoCoreError when there is nothing to sign with, and nothing was sent.
        """
        body = "".join([_BEGIN, *map(_entry, entries), _END]).encode()
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        # The checksum that every server knows, not only AWS's newer ones.
        headers = {"Content-MD5": digest, "Content-Type": "application/xml"}
        request = AWSRequest("POST", self._url, headers, body)
        credentials = self._session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        S3SigV4Auth(credentials.get_frozen_credentials(), "s3", self._region).add_auth(request)
        timeout = urllib3.Timeout(connect=10, read=s3.READ_SECONDS)
        try:
            answer = self._http.request(
                "POST", self._url, body=body, headers=dict(request.headers.items()), retries=False, redirect=False,
                timeout=timeout,
            )  # fmt: skip
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(type(error).__name__) from None  # its text may hold the address
        return parse_answer(answer.status, answer.data)


def _entry(entry: tuple[str, str | None]) -> str:
    key, etag = entry
    if etag is None:
        return f"<Object><Key>{escape(key)}</Key></Object>"
    return f'<Object><Key>{escape(key)}</Key><ETag>"{escape(etag)}"</ETag></Object>'


def parse_answer(status: int, body: bytes) -> Answer:
    """Raises Refusal, also for an error that comes as 200; NoAnswer for what is no whole DeleteResult."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  # expat refuses entity bombs; the store is ours
    except ElementTree.ParseError:
        if status != 200:
            raise Refusal(status, "") from None
        raise NoAnswer("broken XML") from None
    space, _, name = root.tag.rpartition("}")
    space = f"{space}}}" if space else ""
    if status != 200 or name == "Error":
        code = root.findtext(f"{space}Code") or ""
        raise Refusal(500 if status == 200 else status, code if _CODE.fullmatch(code) else "")
    if name != "DeleteResult":
        raise NoAnswer("not a DeleteResult")
    answer = Answer({}, {})
    deleted, failed, key = f"{space}Deleted", f"{space}Error", f"{space}Key"
    for item in root:
        if item.tag == deleted:
            marker = None
            if len(item) > 1 and item.findtext(f"{space}DeleteMarker", "").strip().lower() == "true":
                marker = item.findtext(f"{space}DeleteMarkerVersionId") or None
            answer.deleted[item.findtext(key, "")] = marker
        elif item.tag == failed:
            code = item.findtext(f"{space}Code") or ""
            answer.errors[item.findtext(key, "")] = code if _CODE.fullmatch(code) else ""
    return answer
