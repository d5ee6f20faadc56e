"""Undoing an act on S3, and making it final: copies in the quarantine, delete markers and what is below them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.stores.acting import Done, Seen, changed, own_copy
from maintenance_defs.stores.acting_s3_copy import Copier, hash_of
from maintenance_defs.stores.s3 import S3Store, plain, s3_facts, said
from maintenance_defs.stores.s3_pages import BUSY

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef


class Undoer:
    """Each act returns None when it is done, else the outcome that says why not."""

    def __init__(self, reading: S3Store, copier: Copier, *, versioned: bool) -> None:
        self.reading, self._reads, self._bucket = reading, reading.client, reading.access.bucket
        self._copier, self._versioned = copier, versioned

    def copy_back(self, undo: Mapping[str, str], seen: Seen) -> Done | None:
        key, copy_key, copier = seen.key, own_copy(undo, seen.key), self._copier
        copy, live = self.reading.describe(copy_key), self.reading.describe(key)
        if copy is None:
            if live is not None and undo.get("etag") == plain(live.get("ETag")):
                return Done(key, "restored", "it was there already, and the quarantined copy is gone")
            return Done(key, "already_absent", "the quarantined copy is gone")
        if live is not None and copier.content_differs(copy_key, copy, key, live):
            return Done(key, "failed", "occupied: another content is under the key; the quarantined copy was kept")
        if live is None and (wrong := copier.copy(copy_key, copy, key)):
            return Done(key, "failed", f"{wrong}; the quarantined copy was kept")
        kept = self._delete_exactly(copy_key, copy, copy.get("VersionId"))
        return Done(key, "restored", f"the quarantined copy is still there as well: {kept}") if kept else None

    def take_marker_away(self, undo: Mapping[str, str], seen: Seen) -> Done | None:
        key, marker = seen.key, undo["marker_id"]
        live = self.reading.describe(key)
        if live is not None:
            if "version_id" in undo and undo["version_id"] == live.get("VersionId"):
                return None
            return Done(key, "failed", "occupied: another version is under the key")
        if self._marker(key) != marker:
            words = "another delete marker is on top: it was deleted again since, or a lost request was done late"
            return Done(key, "failed", words)
        below = self._below(key, marker)
        if below is None or undo.get("version_id", below) != below:  # an older one must not come to light in its place
            return Done(key, "already_absent", "the version below the delete marker is gone")
        if kept := self._delete_exactly(key, None, marker):
            return Done(key, "failed", f"{kept}; the delete marker was kept")
        if self.reading.describe(key) is None:
            return Done(key, "failed", "the delete marker was taken away, and there is no version below it")
        return None

    def purge_copy(self, undo: Mapping[str, str], seen: Seen) -> Done | None:
        copy_key = own_copy(undo, seen.key)
        copy = self.reading.describe(copy_key)
        if copy is None:
            return Done(seen.key, "already_absent")
        if not is_copy_of(seen, copy) or undo.get("etag", plain(copy.get("ETag"))) != plain(copy.get("ETag")):
            return Done(seen.key, "failed", "not what was quarantined; it was kept")
        kept = self._delete_exactly(copy_key, copy, copy.get("VersionId"))
        return Done(seen.key, "failed", f"{kept}; the copy was kept") if kept else None

    def purge_version(self, undo: Mapping[str, str], seen: Seen) -> Done | None:
        """The version below our marker; the marker stays, or what is older would come to light."""
        key = seen.key
        version_id = undo.get("version_id") or self._below(key, undo["marker_id"])
        if version_id is None:
            return Done(key, "already_absent", "there is no version below the delete marker")
        live, version = self.reading.describe(key), self.reading.describe(key, version_id)
        if live is not None and live.get("VersionId") == version_id:
            return Done(key, "failed", "it is live again; it was kept")
        if version is None:
            return Done(key, "already_absent")
        if different := changed(replace(seen, version_id=None), s3_facts(key, version)):
            return Done(key, "failed", f"not what was quarantined: {different}")
        kept = self._delete_exactly(key, version, version_id)
        return Done(key, "failed", f"{kept}; the version was kept") if kept else None

    def _delete_exactly(self, key: str, found: HeadObjectOutputTypeDef | None, version_id: str | None) -> str | None:
        """Deletes a copy of ours, or one version, for good; says why it could not. Safe to repeat."""
        if found is not None and is_locked(found):
            return "locked: retention or a legal hold is on it"
        try:
            if version_id:
                self._reads.delete_object(Bucket=self._bucket, Key=key, VersionId=version_id)
            else:
                self._reads.delete_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            status, code = said(error)
            if status in BUSY:
                raise
            return f"{'locked: ' if code.startswith('ObjectLocked') else ''}{status} {code}"
        return None

    def _marker(self, key: str) -> str | None:
        """The delete marker on top of a key."""
        page = self._reads.list_object_versions(Bucket=self._bucket, Prefix=key, MaxKeys=2)
        tops = [one for one in page.get("DeleteMarkers", []) if one.get("Key") == key and one.get("IsLatest")]
        return tops[0]["VersionId"] if tops else None

    def only_marker(self, key: str) -> str | None:
        """The marker on top after a delete was repeated. Others between it and the newest version go: the one
        undo must bring the object back. None where there are no versions, or where they could not be asked for."""
        if not self._versioned:
            return None
        try:
            with self.reading.answered("asking for versions"):
                page = self._reads.list_object_versions(Bucket=self._bucket, Prefix=key, MaxKeys=100)
                versions = [one["LastModified"] for one in page.get("Versions", []) if one.get("Key") == key]
                markers = [one for one in page.get("DeleteMarkers", []) if one.get("Key") == key]
                top = next((one["VersionId"] for one in markers if one.get("IsLatest")), None)
                for one in markers:
                    if top and versions and one["LastModified"] > max(versions) and one["VersionId"] != top:
                        self._delete_exactly(key, None, one["VersionId"])
        except StoreUnavailable:
            return None
        return top

    def marker_above(self, seen: Seen) -> dict[str, str] | None:
        """The undo of a delete nobody recorded: the marker on top, if the version right below it is what was seen."""
        marker = self._marker(seen.key)
        below = self._below(seen.key, marker) if marker else None
        if marker is None or below is None:
            return None
        found = self._reads.head_object(Bucket=self._bucket, Key=seen.key, VersionId=below)
        same = (found.get("ETag") or "").strip('"') == seen.etag and found.get("ContentLength") == seen.size_bytes
        return {"kind": "marker", "marker_id": marker, "version_id": below} if same else None

    def _below(self, key: str, marker: str) -> str | None:
        """The version right below a delete marker: the newest one that is not newer than it."""
        page = self._reads.list_object_versions(
            Bucket=self._bucket, Prefix=key, KeyMarker=key, VersionIdMarker=marker, MaxKeys=1
        )
        versions = [one for one in page.get("Versions", []) if one.get("Key") == key]
        return versions[0]["VersionId"] if versions else None


def is_locked(found: HeadObjectOutputTypeDef) -> bool:
    until = found.get("ObjectLockRetainUntilDate")
    date = found["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(date) if date else datetime.min.replace(tzinfo=UTC)
    return found.get("ObjectLockLegalHoldStatus") == "ON" or (until is not None and until > now)


def is_copy_of(seen: Seen, copy: HeadObjectOutputTypeDef) -> bool:
    """By size, and by hash where both have one: then the time of the copy is its own."""
    same = hash_of(copy) in (None, seen.etag) or "-" in (seen.etag or "-")
    return copy.get("ContentLength") == seen.size_bytes and same
