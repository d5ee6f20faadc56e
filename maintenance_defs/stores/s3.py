"""S3 and what speaks its language: AWS, R2, Supabase, MinIO, Ceph, Swift.

boto3 does sessions, credentials, signing, addressing and every call but one: listing pages go
through `s3_pages`, for exact keys and speed. Errors carry S3's error code and our own words,
never the server's text: it may quote keys, signatures and identities.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import boto3
import botocore.session
import pyarrow as pa
import urllib3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from maintenance_defs.core.declaration import OWN_PREFIX
from maintenance_defs.core.errors import StoreDenied, StoreUnavailable
from maintenance_defs.stores.base import Capabilities, ObjectFacts
from maintenance_defs.stores.ranges import MAX_RANGES, bounded
from maintenance_defs.stores.s3_pages import BUSY, read_pages, refusal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef, ObjectIdentifierTypeDef

READ_SECONDS = 60
SIGNATURE_SECONDS = 300  # a signed page URL opens the listing to whoever sees it: keep it short
BUCKET_SEEN_SECONDS = 60.0  # a HEAD of 404 may also mean that the bucket is gone: look that often
Notes = list[str]  # spelled here: inside the class `list` is a method
WRONG_ETAG = '"00000000000000000000000000000000"'
BODY_ATTEMPTS = 3
NONCURRENT_PAGES = 200  # versions are counted up to 200 000 of them; more is not cheap


@dataclass(frozen=True)
class S3Access:
    """Where a bucket is and how to sign. `key` and its secret are None for the provider's own chain."""

    bucket: str
    endpoint_url: str | None = None
    region: str | None = None
    addressing_style: Literal["path", "virtual", "auto"] | None = None
    key: str | None = None
    secret: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return f"S3Access({self.bucket!r}, {self.endpoint_url!r})"


class S3Store:
    """One bucket."""

    kind = "s3"
    parallel_ranges = True

    def __init__(self, access: S3Access, bucket: str) -> None:
        """bucket: the name that URLs in the database use. Raises StoreUnavailable if no client can be made."""
        self._name = access.bucket
        self.bucket = bucket
        self.access = access
        session = botocore.session.Session()
        with self.answered("opening"):
            self.client = s3_client(access, session)
        endpoint = self.client.meta.endpoint_url
        self.identity = f"{endpoint}/{self._name}"
        self.display_url = f"s3://{self._name}" + (f"?endpoint_url={endpoint}" if access.endpoint_url else "")
        self.http = _pool(endpoint, session.get_config_variable("ca_bundle"))
        self._bucket_seen = -BUCKET_SEEN_SECONDS

    def list(self, *, after: str | None = None, until: str | None = None) -> Iterator[pa.RecordBatch]:
        def sign(token: str | None) -> str:
            asks = {"Bucket": self._name, "EncodingType": "url"}
            if token is not None:
                asks["ContinuationToken"] = token
            if after is not None:
                asks["StartAfter"] = after
            with self.answered("signing"):
                return self.client.generate_presigned_url("list_objects_v2", asks, SIGNATURE_SECONDS)

        yield from bounded(read_pages(sign, self.http, self.display_url), after, until, self.display_url)

    def head(self, key: str) -> ObjectFacts | None:
        """Raises StoreDenied where the store will not say: neither there nor gone (F20)."""
        found = self.describe(key)
        return None if found is None else s3_facts(key, found)

    def describe(self, key: str, version_id: str | None = None) -> HeadObjectOutputTypeDef | None:
        """All that HEAD says of an object, or of one version of it. Raises as `head`."""
        if not key:
            return None
        try:
            if version_id is None:
                return self.client.head_object(Bucket=self._name, Key=key)
            return self.client.head_object(Bucket=self._name, Key=key, VersionId=version_id)
        except ClientError as error:
            status, code = said(error)
            if status == 404 and code != "NoSuchBucket":
                self._see_bucket()
                return None
            if 400 <= status < 500 and status not in BUSY and status != 404:
                raise StoreDenied(f"{self.display_url} does not say whether a key exists ({status} {code}).") from None
            raise self._failed(error, "HEAD") from None
        except BotoCoreError as error:
            raise self._failed(error, "HEAD") from None

    def read_range(self, key: str, start: int, length: int) -> bytes | None:
        """Asks again, a few times, when the answer breaks off: boto3 only repeats what was not answered at all."""
        if not length:
            return None if self.head(key) is None else b""
        for attempt in range(BODY_ATTEMPTS):
            try:
                found = self.client.get_object(Bucket=self._name, Key=key, Range=f"bytes={start}-{start + length - 1}")
                if "ContentRange" in found:
                    body = found["Body"].read()
                    first, last = found["ContentRange"].removeprefix("bytes ").split("/")[0].split("-")
                    if len(body) != int(last) - int(first) + 1:  # the end of an answer is not the end of the object
                        raise IncompleteReadError(actual_bytes=len(body), expected_bytes=int(last) - int(first) + 1)
                    return body
                return found["Body"].read(start + length)[start:]  # a server without ranges sends the whole object
            except ClientError as error:
                status, code = said(error)
                if status == 416:  # the object ends before `start`
                    return b""
                if status == 404 and code != "NoSuchBucket":
                    self._see_bucket()
                    return None
                raise self._failed(error, "reading") from None
            except BotoCoreError as error:
                if attempt + 1 == BODY_ATTEMPTS or not isinstance(error, HTTPClientError | IncompleteReadError):
                    raise self._failed(error, "reading") from None
        raise AssertionError("the last attempt returns or raises")

    def clock(self) -> datetime:
        """From the Date header of any answer, also of a refusal; whole seconds."""
        try:
            headers = self.client.head_bucket(Bucket=self._name)["ResponseMetadata"]["HTTPHeaders"]
        except ClientError as error:
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        except BotoCoreError as error:
            raise self._failed(error, "asking for the time") from None
        if "date" not in headers:
            raise StoreUnavailable(
                f"{self.display_url} does not say what time it is. Nothing was read; check that its answers keep their "
                "Date header on the way."
            )
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)

    def incomplete_uploads(self) -> Iterator[tuple[str, datetime | None]]:
        with self.answered("listing uploads"):
            for page in self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self._name):
                for upload in page.get("Uploads", []):
                    began = upload.get("Initiated")
                    yield upload["Key"], began.astimezone(UTC) if began else None

    def noncurrent(self) -> tuple[int, int] | None:
        """None also where there are too many to count cheaply, or this role may not see them."""
        if not self._versioned():
            return None
        count = size = 0
        try:
            with self.answered("listing versions"):
                pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self._name)
                for number, page in enumerate(pages):
                    if number >= NONCURRENT_PAGES:
                        return None
                    old = [version for version in page.get("Versions", []) if not version.get("IsLatest")]
                    count += len(old) + len(page.get("DeleteMarkers", []))
                    size += sum(version.get("Size", 0) for version in old)
        except StoreUnavailable:
            return None
        return count, size

    def probe(self, *, write: bool = False) -> Capabilities:
        notes: Notes = []
        with self.answered("listing"):
            page = self.client.list_objects_v2(Bucket=self._name, MaxKeys=1)
        reads: bool | None = None
        for item in page.get("Contents", [])[:1]:
            try:
                reads = self.head(item["Key"]) is not None
            except StoreDenied:
                reads = False
        versioned = self._versioned()
        if not write:
            return Capabilities(lists=True, reads=reads, versioned=versioned)
        canary = f"{OWN_PREFIX}probe/{uuid.uuid4().hex}"
        try:
            with self.answered("writing a canary"):
                self.client.put_object(Bucket=self._name, Key=canary, Body=b"canary")
        except StoreUnavailable as error:
            return Capabilities(True, reads, False, versioned=versioned, notes=(str(error),))
        conditional_put = self._refuses(
            lambda: self.client.put_object(Bucket=self._name, Key=canary, IfNoneMatch="*"), "conditional put", notes
        )
        conditional_delete = self._refuses(
            lambda: self.client.delete_object(Bucket=self._name, Key=canary, IfMatch=WRONG_ETAG),
            "conditional delete",
            notes,
        )
        bulk = self._bulk_compares(canary, notes)
        self._remove_canary(canary, notes)
        return Capabilities(
            True, True, True, None, conditional_delete, conditional_put, versioned, tuple(notes), conditional_bulk=bulk
        )

    def put_file(self, key: str, source: Path) -> None:
        with self.answered("uploading"):
            self.client.upload_file(str(source), self._name, key)

    def get_file(self, key: str, target: Path) -> None:
        with self.answered("downloading"):
            self.client.download_file(self._name, key, str(target))

    def _versioned(self) -> bool | None:
        try:
            with self.answered("asking for versioning"):
                # Suspended counts: old versions are still there.
                return "Status" in self.client.get_bucket_versioning(Bucket=self._name)
        except StoreUnavailable:  # denied, or a server that knows no versions
            return None

    def _see_bucket(self) -> None:
        """Raises StoreUnavailable when the bucket itself is gone, which HEAD of a key shows as 404 too."""
        if time.monotonic() - self._bucket_seen < BUCKET_SEEN_SECONDS:
            return
        try:
            self.client.head_bucket(Bucket=self._name)
        except ClientError as error:
            if said(error)[0] != 403:  # may not ask for the bucket, yet was told 404 for the key: it is there
                raise self._failed(error, "HEAD of the bucket") from None
        except BotoCoreError as error:
            raise self._failed(error, "HEAD of the bucket") from None
        self._bucket_seen = time.monotonic()

    def _refuses(self, request: Callable[[], object], what: str, notes: Notes) -> bool:
        """Whether a request with a condition that does not hold is refused as such."""
        try:
            request()
        except ClientError as error:
            status, code = said(error)
            if status != 412:
                notes.append(f"{what}: {status} {code}")
            return status == 412
        except BotoCoreError as error:  # no answer says neither yes nor no
            raise self._failed(error, f"probing {what}") from None
        return False

    def _bulk_compares(self, canary: str, notes: Notes) -> bool:
        """Whether a bulk delete keeps a key whose ETag is another one, says so, and takes it under its own ETag."""
        try:
            own = self.client.put_object(Bucket=self._name, Key=canary, Body=b"canary")["ETag"]
            for etag, codes in ((WRONG_ETAG, ["PreconditionFailed"]), (own, [])):
                entry: ObjectIdentifierTypeDef = {"Key": canary, "ETag": etag}
                told = self.client.delete_objects(Bucket=self._name, Delete={"Objects": [entry]})
                if [error.get("Code") for error in told.get("Errors", [])] != codes:
                    return False
                if (self.head(canary) is None) != (etag == own):
                    return False
        except ClientError as error:
            notes.append(f"conditional bulk delete: {said(error)[0]} {said(error)[1]}")
            return False
        except BotoCoreError as error:  # no answer says neither yes nor no
            raise self._failed(error, "probing conditional bulk delete") from None
        return True

    def _remove_canary(self, canary: str, notes: Notes) -> None:
        try:
            self.client.delete_object(Bucket=self._name, Key=canary)
            if self._versioned():
                page = self.client.list_object_versions(Bucket=self._name, Prefix=canary)
                for version in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    self.client.delete_object(Bucket=self._name, Key=canary, VersionId=version["VersionId"])
        except (ClientError, BotoCoreError) as error:
            notes.append(f"the canary {canary} could not be removed: {type(error).__name__}")

    @contextmanager
    def answered(self, doing: str) -> Iterator[None]:
        """Errors of boto3 as ours, without its text."""
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            raise self._failed(error, doing) from None

    def _failed(self, error: Exception, doing: str) -> StoreUnavailable:
        what = f"s3://{self._name} ({doing})"
        if isinstance(error, ClientError):
            return refusal(what, *said(error), _headers(error).get("x-amz-bucket-region"))
        if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
            return StoreDenied(
                f"{what}: no usable credentials were found ({type(error).__name__}). Nothing was read; set the "
                "variables that the store's credentials name, or the provider's usual ones."
            )
        transient = isinstance(error, HTTPClientError | ConnectionError | IncompleteReadError)
        return StoreUnavailable(
            f"{what} could not be reached or asked ({type(error).__name__}). Nothing was read; check the store's URL "
            "and that its server answers.",
            transient=transient,
        )


def s3_client(access: S3Access, session: botocore.session.Session, attempts: int = 6) -> S3Client:
    """attempts: of one request, in all. 1 for acts: whether one that was not answered was done, must be asked first."""
    return boto3.session.Session(
        aws_access_key_id=access.key,
        aws_secret_access_key=access.secret,
        aws_session_token=access.token,
        botocore_session=session,
    ).client(
        "s3",
        endpoint_url=access.endpoint_url,
        region_name=access.region or ("us-east-1" if access.endpoint_url else None),
        config=Config(
            signature_version="s3v4",
            connect_timeout=10,
            read_timeout=READ_SECONDS,
            max_pool_connections=MAX_RANGES,
            retries={"mode": "standard", "total_max_attempts": attempts},
            s3={"addressing_style": access.addressing_style or ("path" if access.endpoint_url else "auto")},
            request_checksum_calculation="when_required",  # other servers refuse AWS's newer checksums
            response_checksum_validation="when_required",
        ),
    )


def s3_facts(key: str, found: HeadObjectOutputTypeDef) -> ObjectFacts:
    return ObjectFacts(
        key,
        found.get("ContentLength"),
        found["LastModified"].astimezone(UTC) if "LastModified" in found else None,
        plain(found.get("ETag")),
        found.get("VersionId"),
    )


def said(error: ClientError) -> tuple[int, str]:
    """HTTP status and S3's error code."""
    response = error.response
    code = str(response.get("Error", {}).get("Code", ""))
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)), code if code.isalnum() else ""


def _headers(error: ClientError) -> dict[str, str]:
    return error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})


def plain(etag: str | None) -> str | None:
    return etag.removeprefix("W/").strip('"') or None if etag else None


def _pool(endpoint: str, ca_bundle: str | None) -> urllib3.PoolManager:
    """Connections for list pages, with the proxies and certificates that boto3 would use."""
    certificates = ca_bundle or get_cert_path(True)
    proxy = get_environ_proxies(endpoint).get(urlsplit(endpoint).scheme)
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=MAX_RANGES, ca_certs=certificates)
    return urllib3.PoolManager(maxsize=MAX_RANGES, ca_certs=certificates)
