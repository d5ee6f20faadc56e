"""Deleting from S3 so that every outcome is true, also behind a network and a server that fail.

No request is repeated blindly: whatever was not answered clearly is looked at first. Gone is deleted;
the same object still there may be asked for again; anything else is said as it is.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
from botocore.parsers import ResponseParserError

from maintenance_defs.core.errors import StoreUnavailable
from maintenance_defs.stores.acting import Done, Look, Seen, unlike
from maintenance_defs.stores.ranges import MAX_RANGES
from maintenance_defs.stores.s3 import said
from maintenance_defs.stores.s3_bulk import BulkDelete, NoAnswer, Refusal
from maintenance_defs.stores.s3_pages import BUSY, BUSY_CODES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PATIENCE_SECONDS = 60.0  # how long one batch may be refused or not answered
LONGEST_WAIT_SECONDS = 10.0
BULK_OBJECTS = 1000  # what S3 takes in one request
AT_ONCE = 2  # requests of one act; acts are in flight beside each other as well
_NO_BULK = frozenset({"MalformedXML", "NotImplemented", "MethodNotAllowed"})
# Control characters, and spaces at the ends, do not survive every server's XML: then another key would go.
_PLAIN = re.compile(r"(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]+(?<!\s)")


@dataclass(frozen=True)
class Trouble:
    """Why an object has no outcome yet. lost: the request may have been done all the same, or be done later."""

    words: str
    lost: bool


class Remover:
    """Deletes what is still what was seen.

    bulk: sends one bulk request. look: asks for keys as they are now.
    locked: whether an object is held by the store (F06).
    marker: the one delete marker on top of a key, where the bucket keeps versions.
    conditional, conditional_bulk: whether the store holds one delete, or each of a bulk, against an ETag.
    """

    def __init__(
        self,
        writes: S3Client,
        bulk: BulkDelete,
        bucket: str,
        look: Callable[[Sequence[str]], Look],
        locked: Callable[[str], bool],
        marker: Callable[[str], str | None],
        *,
        conditional: bool,
        conditional_bulk: bool,
    ) -> None:
        self._writes, self._delete_many, self._bucket = writes, bulk, bucket
        self._look, self._locked, self._marker = look, locked, marker
        self._conditional, self._conditional_bulk = conditional, conditional_bulk
        self._bulk_works = True

    def remove(self, objects: Sequence[Seen], *, checked: bool) -> dict[str, Done]:
        """checked: no look before the first request, and bulk requests also where they carry no condition."""
        done: dict[str, Done] = {}
        parts = [list(objects[start : start + BULK_OBJECTS]) for start in range(0, len(objects), BULK_OBJECTS)]
        with ThreadPoolExecutor(AT_ONCE, "removing") as threads:
            for _ in threads.map(lambda part: self._remove(part, done, checked=checked), parts):
                pass  # each fills `done` with its own keys; an error is raised here
        return done

    def _remove(self, batch: list[Seen], done: dict[str, Done], *, checked: bool) -> None:
        if not checked:
            batch = self._unchanged(batch, done)
        singly = self._conditional and not self._conditional_bulk and not checked
        alone = [seen for seen in batch if singly or not _PLAIN.fullmatch(seen.key)]
        apart = {seen.key for seen in alone}
        self._batch([seen for seen in batch if seen.key not in apart], done, one_by_one=False)
        self._batch(alone, done, one_by_one=True)

    def _unchanged(self, batch: Sequence[Seen], done: dict[str, Done]) -> list[Seen]:
        """Those that are as they were seen, with their version; the others get their outcome."""
        now = self._look([seen.key for seen in batch])
        same = []
        for seen in batch:
            facts = now[seen.key]
            if (reason := unlike(seen, facts)) is not None:
                done[seen.key] = reason
            elif facts is not None and not isinstance(facts, StoreUnavailable):
                same.append(replace(seen, version_id=seen.version_id or facts.version_id))
        return same

    def _batch(self, todo: list[Seen], done: dict[str, Done], *, one_by_one: bool) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        lost: set[str] = set()  # at most a batch
        attempt = 0
        while todo:
            attempt += 1
            each = one_by_one or not self._bulk_works
            troubles = self._each(todo, done) if each else self._bulk(todo, done)
            self._after_loss([seen for seen in todo if seen.key in lost and seen.key not in troubles], done)
            todo = [seen for seen in todo if seen.key in troubles]
            if not todo:
                return
            lost |= {key for key, trouble in troubles.items() if trouble.lost}
            wait = random.uniform(0, min(LONGEST_WAIT_SECONDS, 0.1 * 2**attempt))  # noqa: S311  # jitter
            last = time.monotonic() + wait > deadline
            time.sleep(0 if last else wait)
            todo = self._asked_again(todo, troubles, done)
            if last:
                for seen in todo:
                    words = f"{troubles[seen.key].words} after {attempt} attempts; it was still there when asked last"
                    done[seen.key] = Done(seen.key, "unknown" if seen.key in lost else "failed", words)
                return

    def _after_loss(self, settled: list[Seen], done: dict[str, Done]) -> None:
        """Outcomes of a repeated request, seen in the light of the first one, which may have been done."""
        for seen in settled:
            one = done[seen.key]
            if one.outcome == "already_absent":
                done[seen.key] = replace(one, outcome="deleted", detail="the first answer was lost; it is gone")
            elif one.outcome == "skipped_changed":
                detail = f"an answer was lost; {one.detail}; whether it was deleted before cannot be told"
                done[seen.key] = replace(one, outcome="unknown", detail=detail)
            if done[seen.key].outcome == "deleted":  # both requests may have left a marker
                done[seen.key] = replace(done[seen.key], undo=_undo(self._marker(seen.key), seen))

    def _asked_again(self, todo: list[Seen], troubles: dict[str, Trouble], done: dict[str, Done]) -> list[Seen]:
        """Settles what a look can settle; returns what is still there, unchanged."""
        now = self._look([seen.key for seen in todo])
        same = []
        for seen in todo:
            words = troubles[seen.key].words
            reason = unlike(seen, now[seen.key])
            if reason is None:
                same.append(seen)
            elif reason.outcome == "already_absent":
                detail = f"{words}; it was gone when asked again"
                done[seen.key] = Done(seen.key, "deleted", detail, _undo(self._marker(seen.key), seen))
            else:
                detail = f"{words}; asked again: {reason.detail}; whether it was deleted before cannot be told"
                done[seen.key] = Done(seen.key, "unknown", detail)
        return same

    def _bulk(self, todo: list[Seen], done: dict[str, Done]) -> dict[str, Trouble]:
        try:
            answer = self._delete_many([(seen.key, seen.etag if self._conditional_bulk else None) for seen in todo])
        except Refusal as no:
            if no.code in _NO_BULK:
                self._bulk_works = False
                return self._each(todo, done)
            return {seen.key: trouble for seen in todo if (trouble := self._said_no(seen, no.status, no.code, done))}
        except NoAnswer as error:
            return dict.fromkeys((seen.key for seen in todo), Trouble(f"no whole answer ({error})", lost=True))
        except BotoCoreError as error:
            return {seen.key: trouble for seen in todo if (trouble := _unanswered(seen, error, done))}
        deleted, errors = answer.deleted, answer.errors
        asked = {seen.key for seen in todo}
        if not asked >= deleted.keys() | errors.keys() or deleted.keys() & errors.keys():
            return dict.fromkeys(asked, Trouble("the answer names other keys than were asked for", lost=True))
        troubles = {}
        for seen in todo:
            if seen.key in deleted:
                done[seen.key] = Done(seen.key, "deleted", None, _undo(deleted[seen.key], seen))
            elif seen.key in errors:
                if trouble := self._said_no(seen, 0, errors[seen.key], done):
                    troubles[seen.key] = trouble
            else:  # neither deleted nor refused: never taken for success
                troubles[seen.key] = Trouble("the answer does not name it", lost=True)
        return troubles

    def _each(self, todo: list[Seen], done: dict[str, Done]) -> dict[str, Trouble]:
        with ThreadPoolExecutor(MAX_RANGES, "deleting") as threads:
            troubles = threads.map(lambda seen: self._one(seen, done), todo)
            return {seen.key: trouble for seen, trouble in zip(todo, troubles, strict=True) if trouble}

    def _one(self, seen: Seen, done: dict[str, Done]) -> Trouble | None:
        condition: dict[str, Any] = {}
        if self._conditional and seen.etag is not None:
            condition["IfMatch"] = f'"{seen.etag}"'
        try:
            answer = self._writes.delete_object(Bucket=self._bucket, Key=seen.key, **condition)
        except ClientError as error:
            return self._refused(seen, error, done)
        except BotoCoreError as error:
            return _unanswered(seen, error, done)
        marker = answer.get("VersionId") if answer.get("DeleteMarker") else None
        done[seen.key] = Done(seen.key, "deleted", None, _undo(marker, seen))
        return None

    def _refused(self, seen: Seen, error: ClientError, done: dict[str, Done]) -> Trouble | None:
        return self._said_no(seen, *said(error), done)

    def _said_no(self, seen: Seen, status: int, code: str, done: dict[str, Done]) -> Trouble | None:
        """An outcome for an answer that trying again will not change; else the trouble."""
        words = f"{status or ''} {code}".strip()
        if code in ("NoSuchKey", "NoSuchVersion"):
            done[seen.key] = Done(seen.key, "already_absent")
        elif status == 412 or code == "PreconditionFailed":
            reason = unlike(seen, self._look([seen.key])[seen.key])
            done[seen.key] = reason or Done(seen.key, "failed", f"{words}: refused, although it is unchanged")
        elif status in BUSY or status == 409 or code in BUSY_CODES or code.startswith("Conditional"):
            return Trouble(words, lost=False)
        elif code.startswith("ObjectLocked") or (code == "AccessDenied" and self._locked(seen.key)):
            done[seen.key] = Done(seen.key, "failed", f"locked: the store holds it ({words}); nothing was changed")
        else:
            done[seen.key] = Done(seen.key, "failed", f"{words}: the store refused; nothing was changed")
        return None


def _unanswered(seen: Seen, error: BotoCoreError, done: dict[str, Done]) -> Trouble | None:
    name = type(error).__name__  # its text may hold a signed URL
    if isinstance(error, HTTPClientError | ConnectionError | ResponseParserError):
        return Trouble(f"no whole answer ({name})", lost=True)
    done[seen.key] = Done(seen.key, "failed", f"{name}: not sent")
    return None


def _undo(marker: str | None, seen: Seen) -> dict[str, str] | None:
    """How to take a delete marker away; None where no old version was kept."""
    if not marker or marker == "null":  # versioning suspended: the marker took the place of the object
        return None
    undo = {"kind": "marker", "marker_id": marker}
    return undo | {"version_id": seen.version_id} if seen.version_id else undo
