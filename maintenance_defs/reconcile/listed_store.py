"""Is a store that is about to be changed the one that was listed? A URL may lead elsewhere than it did."""

from __future__ import annotations

from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.stores.base import ObjectStore


def refuse_another_store(system: System, name: str, store: ObjectStore, home: Home) -> None:
    """Raises Refused("another_store") where the last complete listing was of another one: in this one, what should go
    would seem to be gone already, and its row, or its entry in a catalogue, would follow. No listing refuses nothing.
    """
    listed = home.control.latest(system.name, "inventory", name, verdict="complete")
    if listed is not None and listed.evidence["identity"] != store.identity:
        raise Refused(
            "another_store",
            f"store '{name}' of {system.name} is {store.display_url} now, and another one was listed last. Nothing was "
            f"changed. Set {system.stores[name].url_env} right; if the store was moved, reconcile and accept the pair.",
        )
