"""Copies within one bucket, and the proof that a copy is the whole object with all that belongs to it.

Copied and compared: bytes, content type and the other headers of delivery, user metadata, tags. Not
copied by S3: the object's own access list; a bucket that grants by object must be told again after a restore.
"""

from __future__ import annotations

import re
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from botocore.exceptions import BotoCoreError, ClientError

from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.stores.acting import Traits
from maintenance_defs.stores.acting_move import same_content
from maintenance_defs.stores.s3 import S3Store, plain, said
from maintenance_defs.stores.s3_pages import BUSY, BUSY_CODES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

COPY_LIMIT_BYTES = 5 * 1024**3  # what S3 copies in one request
ATTEMPTS = 5
HEADERS = ("ContentType", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage")
_HASH = re.compile(r"[0-9a-f]{32}")  # the MD5 of the bytes, unless the object is encrypted with a key


class Copier:
    def __init__(self, reading: S3Store, reads: S3Client, writes: S3Client, *, conditional: bool) -> None:
        """conditional: a PUT with If-None-Match was seen to be honoured here."""
        self._reading, self._reads, self._writes = reading, reads, writes
        self._bucket = reading.access.bucket
        self._conditional = conditional
        self._tags_work = True

    def copy(self, source: str, original: HeadObjectOutputTypeDef, target: str) -> str | None:
        """What is wrong with the copy; None: it is there and verified. Never over another object where the
        store honours conditions; else the caller has just seen that the key is free."""
        if original["ContentLength"] > COPY_LIMIT_BYTES:
            size = original["ContentLength"] / 1024**3
            return f"too large to copy: {size:.1f} GiB, and S3 copies at most 5 GiB at once; enable versioning there"
        answered: str | None = None
        trouble = ""
        for attempt in range(ATTEMPTS):
            try:
                answered = self._copy_object(source, original, target)
                break
            except ClientError as error:
                status, code = said(error)
                trouble = f"{status} {code}".strip()
                if status == 501 and self._conditional:
                    self._conditional = False
                elif status not in BUSY and code not in BUSY_CODES:
                    break  # 412 too: what is there is compared below
            except BotoCoreError as error:
                trouble = f"no whole answer ({type(error).__name__})"
            time.sleep(0.1 * 2**attempt)
        made = self._reading.describe(target)
        if made is None:
            return f"copy failed: {trouble}" if trouble else "copy failed: the store answered, and there is no copy"
        wrong = self.differs(source, original, target, made, attested=answered)
        return wrong and f"{trouble}: {wrong}".removeprefix(": ")

    def _copy_object(self, source: str, original: HeadObjectOutputTypeDef, target: str) -> str | None:
        asks: dict[str, Any] = {"MetadataDirective": "COPY"}
        if "ETag" in original:
            asks["CopySourceIfMatch"] = original["ETag"]
        if original.get("StorageClass"):
            asks["StorageClass"] = original["StorageClass"]
        if self._conditional:
            asks["IfNoneMatch"] = "*"
        answer = self._writes.copy_object(
            Bucket=self._bucket, Key=target, CopySource={"Bucket": self._bucket, "Key": source}, **asks
        )
        return plain(answer.get("CopyObjectResult", {}).get("ETag"))

    def differs(
        self,
        source: str,
        original: HeadObjectOutputTypeDef,
        target: str,
        copy: HeadObjectOutputTypeDef,
        *,
        attested: str | None = None,
    ) -> str | None:
        """In what a copy is not the original; None when it is equal.

        attested: the ETag that the store itself gave for the copy it just made; spares reading both where
        ETags are no hashes (multipart uploads, encryption with keys).
        """
        if wrong := self.content_differs(source, original, target, copy, attested=attested):
            return wrong
        for header in HEADERS:
            if original.get(header) != copy.get(header):
                return f"the copy has another {header}"
        if not original.get("Metadata", {}).items() <= copy.get("Metadata", {}).items():  # some add their own
            return "the copy has other metadata"
        if self.tags(source) != self.tags(target):
            return "the copy has other tags"
        return None

    def content_differs(
        self,
        source: str,
        original: HeadObjectOutputTypeDef,
        target: str,
        copy: HeadObjectOutputTypeDef,
        *,
        attested: str | None = None,
    ) -> str | None:
        if original.get("ContentLength") != copy.get("ContentLength"):
            return f"the copy has {copy.get('ContentLength')} bytes instead of {original.get('ContentLength')}"
        one, two = hash_of(original), hash_of(copy)
        if one is not None and one == two:
            return None
        if (one is None or two is None) and attested is not None and plain(copy.get("ETag")) == attested:
            return None
        with self._reading.answered("reading both copies"):
            first = self._reads.get_object(Bucket=self._bucket, Key=source)["Body"]
            second = self._reads.get_object(Bucket=self._bucket, Key=target)["Body"]
            with closing(first), closing(second):
                equal = same_content(first, second)  # type: ignore[arg-type]  # they can be read, which is all it takes
        return None if equal else "the copy has other bytes"

    def tags(self, key: str) -> dict[str, str]:
        """None at all where the store knows no tags or does not show them to us."""
        if not self._tags_work:
            return {}
        for attempt in range(ATTEMPTS):
            try:
                answer = self._writes.get_object_tagging(Bucket=self._bucket, Key=key)
                break
            except ClientError as error:
                status, code = said(error)
                if status == 500 or status not in BUSY:  # 500 is how rclone says that it knows no tags
                    self._tags_work = False
                    return {}
            except BotoCoreError as error:
                code = type(error).__name__
            time.sleep(0.1 * 2**attempt)
        else:
            raise StoreUnavailable(f"The tags of {key!r} could not be read ({code}).", transient=True)
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", [])}

    def traits(self, key: str, found: HeadObjectOutputTypeDef) -> Traits:
        headers = {name: str(found.get(name)) for name in HEADERS if found.get(name) is not None}
        return Traits(found.get("LastModified"), headers, found.get("Metadata", {}), self.tags(key))


def upload_arguments(traits: Traits) -> dict[str, Any]:
    asks: dict[str, Any] = {**traits.headers, "Metadata": dict(traits.metadata)}
    return asks | {"Tagging": urlencode(traits.tags)} if traits.tags else asks


def hash_of(found: HeadObjectOutputTypeDef) -> str | None:
    """The MD5 of the bytes, where the ETag is one."""
    etag = plain(found.get("ETag")) or ""
    keyed = "SSECustomerAlgorithm" in found or str(found.get("ServerSideEncryption", "")).startswith("aws:")
    return etag if _HASH.fullmatch(etag) and not keyed else None
