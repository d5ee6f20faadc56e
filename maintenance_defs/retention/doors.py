"""The doors that write, opened with the credentials that may (H14). Plans and reports never come here."""

from __future__ import annotations

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.databases.acting import ActingDatabase, open_acting_database
from maintenance_defs.databases.same import refuse_another_writer
from maintenance_defs.databases.urls import reading_url, writing_url
from maintenance_defs.reconcile.listed_store import refuse_another_store
from maintenance_defs.stores.acting import ActingStore, open_acting


def open_store_for_acting(system: System, name: str, home: Home) -> ActingStore:
    """Raises EnvironmentMissing, StoreUnavailable; Refused (another_store) where its URL leads elsewhere than at the
    last complete listing: there, what should go would seem to be gone already, and its row would follow."""
    store = system.stores[name]
    if store.write_credentials is not None:
        store = store.model_copy(update={"credentials": store.write_credentials})
    opened = open_acting(name, store, home.value)
    refuse_another_store(system, name, opened.reading, home)
    return opened


def open_database_for_acting(system: System, home: Home) -> ActingDatabase:
    """Raises EnvironmentMissing, SourceUnavailable; Refused for a database that can only be read, and where the
    writer's URL names another one (another_database)."""
    writes = writing_url(system, home.value)
    refuse_another_writer(system.name, reading_url(system, home.value), writes)
    return open_acting_database(writes)
