"""What each asset is, in words made from the declaration: the text at the top of its page."""

from collections.abc import Iterable

from maintenance_defs.core.declaration import Reference, Store, System
from maintenance_defs.core.quantities import format_duration


def describe_inventory(system: System) -> str:
    lines = [f"- `{name}` ({store.url_env}): {_scopes(store)}" for name, store in system.stores.items()]
    return _text(
        f"What the stores of {system.name} hold: every object with size and time, listed to the end or not at all.",
        [system.description, *lines],
    )


def describe_references(system: System) -> str:
    return _text(
        f"Which objects the rows of {system.name} name, read in one transaction of {system.database.url_env} "
        f"after the listing has ended.",
        [f"- {_reference(reference)}" for reference in system.references],
    )


def describe_diff(system: System) -> str:
    names = ", ".join(f"`{name}`" for name in system.referenced_stores)
    waits = {format_duration(system.stores[name].in_flight) for name in system.referenced_stores}
    guards = system.guards
    return _text(
        f"Objects of {names} that no row names, and rows whose object is gone.",
        [
            f"- An object without a row is `young` for {' or '.join(sorted(waits))}: its row may still come.",
            "- Only a key that is the same byte for byte is a match; whatever comes near protects the object.",
            f"- Refused, and of no use to any plan, above {guards.max_orphan_percent:g} % orphans, above "
            f"{guards.max_missing_percent:g} % missing rows, or when references shrink by more than "
            f"{guards.max_reference_shrink_percent:g} %.",
            "",
            "Nothing is deleted: this only looks.",
        ],
    )


def _scopes(store: Store) -> str:
    return ", ".join(
        f"`{scope.prefix or '(all)'}` {scope.class_}{'' if scope.exclusive else ' (reported only)'}"
        for scope in store.scopes
    )


def _reference(reference: Reference) -> str:
    to = ", ".join(reference.store)
    notes = [f"to {to}"]
    if reference.protects_only:
        notes.append("protects only")
    if reference.optional:
        notes.append("the table may be absent")
    if reference.releases_reference:
        notes.append("some rows release their object")
    return f"`{reference.table}`: `{reference.object}` ({', '.join(notes)})"


def _text(first: str, lines: Iterable[str]) -> str:
    return "\n".join([first, "", *(line for line in lines)])
