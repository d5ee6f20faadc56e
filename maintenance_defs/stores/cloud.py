"""Azure Blob Storage and Google Cloud Storage through obstore.

obstore puts every key through a path of its own. Keys with `//`, `./` or `..` it refuses: then the
whole listing ends in IncompleteListing. A leading or trailing `/` it drops in silence: the key is
listed under another name. That is the gap of these two stores, and it is only seen when both names
exist (the inventory then holds one key twice, and is incomplete). HEAD goes through the same path,
so such a key is looked for, and would later be acted on, under its wrong name only. Buckets with
such keys: use the provider's S3 endpoint, or keep their scopes not `exclusive`.
GCS is the same code, and was not tested on a server: none can be had here.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.compute as pc
import urllib3
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore

from maintenance_defs.core.declaration import OWN_PREFIX
from maintenance_defs.core.errors import IncompleteListing, StoreDenied, StoreUnavailable
from maintenance_defs.core.schemas import INVENTORY
from maintenance_defs.stores.base import Capabilities, ObjectFacts
from maintenance_defs.stores.ranges import cut

CHUNK_ROWS = 5_000
SEEN_SECONDS = 60.0  # a HEAD of 404 may also mean that the container is gone: look that often
_STATUS = re.compile(r"status code: (\d{3})")
OBSTORE_GAP = "keys that begin or end with '/' are listed without it"


@dataclass(frozen=True)
class Cloud:
    """A container or bucket, and where its server answers. Never shown: obstore's repr may hold keys."""

    kind: str
    display_url: str
    endpoint: str
    remote: Any

    def __repr__(self) -> str:
        return f"Cloud({self.display_url!r})"


def azure(account: str, container: str, endpoint: str | None, secret: str | None) -> Cloud:
    """secret: the account's key; without it the AZURE_STORAGE_* variables count."""
    base = endpoint or f"https://{account}.blob.core.windows.net"
    config: dict[str, Any] = {"account_name": account, "container_name": container}
    if secret is not None:
        config["account_key"] = secret
    if endpoint is not None:
        config["endpoint"] = endpoint
    display = f"az://{account}/{container}"
    with answered(display, "opening"):
        remote = AzureStore(config=config, client_options={"allow_http": base.startswith("http://")})  # type: ignore[arg-type]  # a typed dict of the very same keys
    return Cloud("azure", display, base, remote)


def google(bucket: str, endpoint: str | None, secret: str | None) -> Cloud:
    """secret: a service account's key as JSON; without it the GOOGLE_* variables count."""
    base = endpoint or "https://storage.googleapis.com"
    config: dict[str, Any] = {"bucket": bucket}
    if secret is not None:
        config["service_account_key"] = secret
    if endpoint is not None:
        config["base_url"] = endpoint
    display = f"gs://{bucket}"
    with answered(display, "opening"):
        remote = GCSStore(config=config, client_options={"allow_http": base.startswith("http://")})  # type: ignore[arg-type]  # a typed dict of the very same keys
    return Cloud("gcs", display, base, remote)


class CloudStore:
    """One container or bucket."""

    parallel_ranges = False  # see `list`

    def __init__(self, cloud: Cloud, bucket: str) -> None:
        self.kind = cloud.kind
        self.bucket = bucket
        self.display_url = cloud.display_url
        self.identity = f"{cloud.endpoint}/{cloud.display_url}"
        self._endpoint = cloud.endpoint
        self.remote = cloud.remote
        self._seen = -SEEN_SECONDS

    def list(self, *, after: str | None = None, until: str | None = None) -> Iterator[pa.RecordBatch]:
        """Always reads everything: what obstore calls an offset begins at the key or behind it, as the server likes."""
        with answered(self.display_url, "listing"):
            for chunk in obstore.list(self.remote, chunk_size=CHUNK_ROWS, return_arrow=True):
                yield cut(_inventory(pa.record_batch(chunk)), after, until)

    def head(self, key: str) -> ObjectFacts | None:
        if not key or key.startswith("/") or key.endswith("/"):
            raise StoreDenied(f"{self.display_url}: obstore cannot ask for a key that begins or ends with '/'.")
        try:
            with answered(self.display_url, "HEAD"):
                found = obstore.head(self.remote, key)
        except Missing:
            self._see_container()
            return None
        at = found["last_modified"].astimezone(UTC)
        return ObjectFacts(key, found["size"], at, _plain(found["e_tag"]), found["version"])

    def read_range(self, key: str, start: int, length: int) -> bytes | None:
        if not key or key.startswith("/") or key.endswith("/"):
            raise StoreDenied(f"{self.display_url}: obstore cannot ask for a key that begins or ends with '/'.")
        if not length:
            return b"" if self.head(key) else None
        try:
            with answered(self.display_url, "reading"):
                # Not get_range: that one fails where the object ends before the range does.
                return bytes(obstore.get(self.remote, key, options={"range": (start, start + length)}).bytes())
        except Missing:
            self._see_container()
            return None
        except PastTheEnd:
            return b""

    def clock(self) -> datetime:
        """From the Date header of an unsigned request: the answer, most likely a refusal, has one too."""
        try:
            answer = urllib3.request("HEAD", self._endpoint, timeout=10, retries=2, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise StoreUnavailable(
                f"{self.display_url} could not be reached ({type(error).__name__}). Nothing was read; check its URL "
                "and that its server answers.",
                transient=True,
            ) from None
        if "Date" not in answer.headers:
            raise StoreUnavailable(
                f"{self.display_url} does not say what time it is. Nothing was read; check that its answers keep their "
                "Date header on the way."
            )
        return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)

    def incomplete_uploads(self) -> Iterator[tuple[str, datetime | None]]:
        return iter(())  # uncommitted blocks have no object, and obstore does not show them

    def noncurrent(self) -> tuple[int, int] | None:
        return None  # obstore shows no versions

    def probe(self, *, write: bool = False) -> Capabilities:
        with answered(self.display_url, "listing"):
            next(iter(obstore.list(self.remote, chunk_size=1)), None)
        if not write:
            return Capabilities(lists=True, notes=(OBSTORE_GAP,))
        canary = f"{OWN_PREFIX}probe/{uuid.uuid4().hex}"
        try:
            with answered(self.display_url, "writing a canary"):
                obstore.put(self.remote, canary, b"canary")
        except StoreUnavailable as error:
            return Capabilities(lists=True, writes=False, notes=(OBSTORE_GAP, str(error)))
        conditional_put = False
        try:
            obstore.put(self.remote, canary, b"again", mode="create")
        except (PreconditionError, obstore.exceptions.AlreadyExistsError):
            conditional_put = True
        with answered(self.display_url, "removing the canary"):
            obstore.delete(self.remote, canary)
        # obstore's delete takes no condition at all.
        return Capabilities(True, True, True, None, False, conditional_put, None, (OBSTORE_GAP,))

    def put_file(self, key: str, source: Path) -> None:
        with answered(self.display_url, "uploading"):
            obstore.put(self.remote, key, source)

    def get_file(self, key: str, target: Path) -> None:
        with answered(self.display_url, "downloading"), target.open("wb") as file:
            for chunk in obstore.get(self.remote, key).stream():
                file.write(chunk)

    def _see_container(self) -> None:
        """Raises StoreUnavailable when the container itself is gone, which HEAD of a key shows as 404 too."""
        if time.monotonic() - self._seen > SEEN_SECONDS:
            with answered(self.display_url, "listing"):
                next(iter(obstore.list(self.remote, chunk_size=1)), None)
            self._seen = time.monotonic()


class Missing(StoreUnavailable):
    """404: of a key in HEAD, of the container elsewhere."""


class PastTheEnd(StoreUnavailable):
    """416: the object ends before the range begins."""


@contextmanager
def answered(what: str, doing: str) -> Iterator[None]:
    """obstore's errors as ours. Their text is dropped: it may hold signed URLs."""
    try:
        yield
    except InvalidPathError:
        raise IncompleteListing(
            f"{what} holds a key that obstore cannot carry (such as a//b or a/../b): {doing} ended there. "
            "Nothing was concluded; list it through an S3 endpoint instead."
        ) from None
    except (BaseError, FileNotFoundError) as error:
        found = _STATUS.search(str(error))  # a listing tells 401, 403 and 404 only in its text
        status = found[1] if found else ""
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in ("401", "403"):
            raise StoreDenied(
                f"{what} refused {doing}. Nothing was read; check the variables its credentials name."
            ) from None
        if isinstance(error, NotFoundError | FileNotFoundError) or status == "404":
            raise Missing(f"{what} does not exist ({doing}). Nothing was read; check its URL.") from None
        if status == "416":
            raise PastTheEnd(f"{what} holds less than was asked for ({doing}). Nothing was read.") from None
        kind = IncompleteListing if doing == "listing" else StoreUnavailable
        raise kind(
            f"{what} failed at {doing} ({type(error).__name__}). Nothing was concluded; run it again when it answers.",
            transient=True,
        ) from None


def _inventory(found: pa.RecordBatch) -> pa.RecordBatch:
    key = found["path"].cast(pa.string())
    etag = pa.array([_plain(text) for text in found["e_tag"].to_pylist()], pa.string())
    columns = [
        key,
        found["size"].cast(pa.int64()),
        pc.cast(found["last_modified"], INVENTORY.field("modified_at").type),
    ]
    return pa.RecordBatch.from_arrays([*columns, etag, pa.nulls(len(key), pa.string())], schema=INVENTORY)


def _plain(etag: str | None) -> str | None:
    return etag.removeprefix("W/").strip('"') or None if etag else None
