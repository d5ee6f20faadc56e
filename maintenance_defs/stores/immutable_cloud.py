"""Immutable objects on Azure Blob Storage and Google Cloud Storage through obstore.

Created in one request, which is what a condition can be set on: the file is in memory meanwhile, so files of
an archive are kept below half a gigabyte. obstore shows no versions, soft deletes or locks: where an account
keeps them, an object that is gone here may still be had there, and the proof says so.
GCS is the same code, and was not tested on a server.
"""

from __future__ import annotations

from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from maintenance_defs.core.errors import StoreDenied, StoreUnavailable
from maintenance_defs.stores import immutable
from maintenance_defs.stores.cloud import CloudStore, Missing, answered
from maintenance_defs.stores.immutable import Lock, Removed, pause, refuse_own_key

PROOF = "HEAD 404; older versions and soft deletes of the account cannot be seen from here"


class CloudImmutable:
    """One container or bucket."""

    def __init__(self, reading: CloudStore) -> None:
        self.reading = reading
        self._remote = reading.remote

    def attests(self) -> bool:
        return True  # both refuse a create of what exists, at the server

    def create(self, key: str, source: Path) -> bool:
        refuse_own_key(key, self.reading.display_url)
        for attempt in range(immutable.ATTEMPTS):
            if self.reading.head(key) is not None:
                return False
            try:
                with answered(self.reading.display_url, "uploading"):
                    try:
                        obstore.put(self._remote, key, source, mode="create")
                    except (AlreadyExistsError, PreconditionError):
                        return False
                return True
            except (StoreDenied, Missing):
                raise
            except StoreUnavailable:
                # Not answered: the look at the beginning tells what was done.
                if attempt == immutable.ATTEMPTS - 1:
                    raise
                pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    def lock(self, key: str) -> Lock | None:
        return None

    def remove(self, key: str) -> Removed:
        refuse_own_key(key, self.reading.display_url)
        taken = self.reading.head(key) is not None
        if taken:
            with answered(self.reading.display_url, "deleting"):
                try:
                    obstore.delete(self._remote, key)
                except FileNotFoundError:
                    taken = False  # an earlier request of this very call did it
            if self.reading.head(key) is not None:
                raise StoreUnavailable(
                    f"{self.reading.display_url} still has {key!r} after its deletion. Run it again.", transient=True
                )
        return Removed(int(taken), proof=PROOF)
