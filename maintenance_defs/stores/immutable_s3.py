"""Immutable objects on S3 and what speaks its language.

Created with If-None-Match; where a server does not honour it (probed, F08) the key is asked for first, and the
caller reads the object back. Removed version by version, never below a delete marker: a marker hides, and
what is hidden is not gone (G98). Locks are asked of every version before anything is removed (G96).
"""

from __future__ import annotations

import base64
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
from botocore.parsers import ResponseParserError

from maintenance_defs.core.errors import StoreDenied, StoreUnavailable
from maintenance_defs.stores import immutable
from maintenance_defs.stores.base import Capabilities
from maintenance_defs.stores.immutable import Lock, Removed, pause, refuse_own_key
from maintenance_defs.stores.s3 import S3Store, s3_client, said
from maintenance_defs.stores.s3_pages import BUSY, BUSY_CODES

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 8 * 1024**2  # larger files go in parts
MOST_PARTS = 9000  # S3 takes 10 000
PART_THREADS = 4  # parts in memory at once
ROUNDS = 3  # of listing versions and removing them, where some appear meanwhile
NO_VERSIONS = frozenset({400, 404, 405, 501})  # how servers say that they know none, and no locks and uploads


class S3Immutable:
    """One bucket."""

    def __init__(self, reading: S3Store, capabilities: Capabilities | None = None) -> None:
        self.reading = reading
        self._bucket = reading.access.bucket
        self._given = capabilities
        self._reads = reading.client  # repeats what is not answered: for what may be repeated
        with reading.answered("opening"):
            self._writes = s3_client(reading.access, botocore.session.Session(), attempts=1)
        self._guard = threading.Lock()
        self._seen: tuple[bool, bool] | None = None
        self._condition: dict[str, Any] = {"IfNoneMatch": "*"}

    def attests(self) -> bool:
        return self._found()[0]

    def create(self, key: str, source: Path) -> bool:
        refuse_own_key(key, self.reading.display_url)
        trouble = ""
        for attempt in range(immutable.ATTEMPTS):
            if self.reading.describe(key) is not None:
                return False
            try:
                self._put(key, source)
                return True
            except ClientError as error:
                status, code = said(error)
                trouble = f"{status} {code}"
                if status == 412:
                    return False
                if (status == 501 or code == "NotImplemented") and self._condition:
                    self._condition = {}
                elif status not in BUSY and status != 409 and code not in BUSY_CODES and code != "NoSuchUpload":
                    with self.reading.answered("uploading"):
                        raise
            except BotoCoreError as error:
                trouble = f"no whole answer: {type(error).__name__}"
                if not isinstance(error, HTTPClientError | ConnectionError | ResponseParserError):
                    with self.reading.answered("uploading"):
                        raise
            pause(attempt)
        if self.reading.describe(key) is not None:
            return False
        raise StoreUnavailable(
            f"{self.reading.display_url} did not take an object in {immutable.ATTEMPTS} attempts ({trouble}). Nothing "
            "is there under its key; run it again when it answers.",
            transient=True,
        )

    def lock(self, key: str) -> Lock | None:
        if not self._found()[1]:
            return None
        now = self.reading.clock()
        until = None
        for version_id, is_marker in self._versions(key) or [(None, False)]:
            found = None if is_marker else self.reading.describe(key, version_id)
            if found is None:
                continue
            if found.get("ObjectLockLegalHoldStatus") == "ON":
                return Lock(None)
            date = found.get("ObjectLockRetainUntilDate")
            if date is not None and date > now and (until is None or date > until):
                until = date
        return None if until is None else Lock(until)

    def remove(self, key: str) -> Removed:
        refuse_own_key(key, self.reading.display_url)
        if lock := self.lock(key):
            return Removed(0, lock)
        self._abort_uploads(key)
        taken = 0
        for _ in range(ROUNDS):
            versions = self._versions(key)
            there = self.reading.describe(key) is not None
            if not versions and not there:
                shown = (
                    "no version or delete marker is listed" if versions is not None else "the server has no versions"
                )
                return Removed(taken, proof=f"HEAD 404; {shown}")
            # Markers last: without them an older version would come to light before it is gone.
            for version_id, _ in sorted(versions or [(None, False)], key=lambda one: one[1]):
                try:
                    self._delete(key, version_id)
                except StoreDenied:
                    if lock := self.lock(key):  # locked since we asked
                        return Removed(taken, lock)
                    raise
                taken += 1
        raise StoreUnavailable(
            f"{self.reading.display_url} still has {key!r} after {taken} versions of it were deleted. Run it again.",
            transient=True,
        )

    # -- creating

    def _put(self, key: str, source: Path) -> None:
        size = source.stat().st_size
        part = max(PART_BYTES, -(-size // MOST_PARTS))
        if size > part:
            return self._put_parts(key, source, part, -(-size // part))
        body = source.read_bytes()
        self._writes.put_object(Bucket=self._bucket, Key=key, Body=body, ContentMD5=_md5(body), **self._condition)

    def _put_parts(self, key: str, source: Path, part: int, count: int) -> None:
        upload = self._writes.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]

        def send(number: int) -> CompletedPartTypeDef:
            with source.open("rb") as file:
                file.seek((number - 1) * part)
                body = file.read(part)
            answer = self._reads.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=number, Body=body, ContentMD5=_md5(body)
            )
            return {"ETag": answer["ETag"], "PartNumber": number}

        try:
            with ThreadPoolExecutor(PART_THREADS, "uploading") as threads:
                parts = list(threads.map(send, range(1, count + 1)))
            self._writes.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **self._condition
            )
        except BaseException:
            # What is left of it would cost and hold data. If this fails too, `remove` takes it away.
            with suppress(ClientError, BotoCoreError):
                self._writes.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
            raise

    # -- removing

    def _delete(self, key: str, version_id: str | None) -> None:
        """One version for good; without an id, the object of a bucket that has no versions."""
        with self.reading.answered("deleting"):
            if version_id is None:
                self._reads.delete_object(Bucket=self._bucket, Key=key)
            else:
                self._reads.delete_object(Bucket=self._bucket, Key=key, VersionId=version_id)

    def _versions(self, key: str) -> list[tuple[str | None, bool]] | None:
        """(version id, whether it is a delete marker) of exactly this key; None where the server knows no versions.

        Raises StoreDenied where they may not be listed: then nobody can say that the object is gone.
        """
        found: list[tuple[str | None, bool]] = []
        try:
            for page in self._reads.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=key):
                versions, markers = page.get("Versions", []), page.get("DeleteMarkers", [])
                found += [(one.get("VersionId"), False) for one in versions if one.get("Key") == key]
                found += [(one.get("VersionId"), True) for one in markers if one.get("Key") == key]
                if any(one.get("Key", "") > key for one in (*versions, *markers)):
                    break  # keys that only begin alike come behind it
        except ClientError as error:
            if said(error)[0] in NO_VERSIONS and said(error)[1] != "NoSuchBucket":
                return None
            with self.reading.answered("listing versions"):
                raise
        except BotoCoreError:
            with self.reading.answered("listing versions"):
                raise
        return found

    def _abort_uploads(self, key: str) -> None:
        """Parts of uploads that were never completed hold the same data."""
        uploads: list[str] = []
        with self.reading.answered("listing uploads"):
            try:
                for page in self._reads.get_paginator("list_multipart_uploads").paginate(
                    Bucket=self._bucket, Prefix=key
                ):
                    uploads += [one["UploadId"] for one in page.get("Uploads", []) if one.get("Key") == key]
            except ClientError as error:
                if said(error)[0] not in NO_VERSIONS:
                    raise
        for upload in uploads:
            with self.reading.answered("ending an upload"):
                try:
                    self._reads.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
                except ClientError as error:
                    if said(error)[1] != "NoSuchUpload":
                        raise

    # -- what the bucket does

    def _found(self) -> tuple[bool, bool]:
        """(a create of what exists is refused, single objects may be locked)."""
        with self._guard:
            if self._seen is None:
                locks = self._may_lock()
                # A canary could not be removed again from a bucket that locks what is put into it.
                seen = self._given or self.reading.probe(write=not locks)
                self._seen = bool(seen.conditional_put), locks
            return self._seen

    def _may_lock(self) -> bool:
        with self.reading.answered("asking for locks"):
            try:
                found = self._reads.get_object_lock_configuration(Bucket=self._bucket)
            except ClientError as error:
                if said(error)[0] == 403:  # it does not say: then every version is asked
                    return True
                if said(error)[0] in NO_VERSIONS and said(error)[1] != "NoSuchBucket":
                    return False
                raise  # not answered: a lock that we never heard of would still be there
            return found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"


def _md5(body: bytes) -> str:
    """Buckets that lock by default take nothing without it."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
