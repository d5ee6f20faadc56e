"""The archive or the store of a name, or what is like it."""

from __future__ import annotations

from maintenance_defs.core.archive import Archive, ColumnArchive
from maintenance_defs.core.declaration import Store, System
from maintenance_defs.core.errors import Refused
from maintenance_defs.core.problems import known_names


def find_any(system: System, name: str) -> Archive | ColumnArchive:
    """Of rows or of values. Raises Refused that names the known ones."""
    return system.archived_columns.get(name) or find_archive(system, name)


def find_archive(system: System, name: str) -> Archive:
    """Raises Refused that names the known ones."""
    if name in system.archived_columns:
        raise Refused(
            "unknown_archive",
            f"{name} of {system.name} is an archived column: it has values, not months. Nothing was done; what of it "
            f"would leave says `maintain plan {system.name} {name}`.",
        )
    if name not in system.archives:
        hint = known_names(name, system.archives)
        raise Refused("unknown_archive", f"{system.name} has no archive {name!r}. Nothing was done. {hint}")
    return system.archives[name]


def find_store(system: System, name: str) -> Store:
    """One that files or values lie in: not always the one that their archive declares for new ones.

    Raises Refused("undeclared_store").
    """
    if name not in system.stores:
        raise Refused(
            "undeclared_store",
            f"store {name!r}, in which files of {system.name}'s archives lie, is not declared any more. Nothing was "
            f"read, changed or removed; declare it again, for as long as anything lies there.",
        )
    return system.stores[name]
