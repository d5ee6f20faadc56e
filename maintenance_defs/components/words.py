"""What each asset is, in words made from the declaration: the text at the top of its page."""

from collections.abc import Iterable

from maintenance_defs.core.declaration import Reference, Store, System
from maintenance_defs.core.policy import Policy
from maintenance_defs.core.quantities import format_duration, format_size


def describe_inventory(system: System) -> str:
    lines = [f"- `{name}` ({store.url_env}): {_scopes(store)}" for name, store in system.stores.items()]
    return paragraphs(
        f"What the stores of {system.name} hold: every object with size and time, listed to the end or not at all.",
        [system.description, *lines],
    )


def describe_references(system: System) -> str:
    archives = ", ".join(f"`{name}`" for name in system.stores if name in system.archive_stores)
    return paragraphs(
        f"Which objects the rows of {system.name} name, read in one transaction of {system.database.url_env} "
        f"after the listing has ended.",
        [
            *(f"- {_reference(reference)}" for reference in system.references),
            *([f"- The catalogue of its archives, in the control database: files of {archives}."] if archives else []),
        ],
    )


def describe_diff(system: System) -> str:
    names = ", ".join(f"`{name}`" for name in system.referenced_stores)
    waits = {format_duration(system.stores[name].in_flight) for name in system.referenced_stores}
    guards = system.guards
    return paragraphs(
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


def describe_plan(system: System, name: str) -> str:
    policy = system.retention[name]
    limits = policy.limits
    return paragraphs(
        f"What `{name}` would take now: {policy.describe}. A plan changes nothing; it is the rehearsal.",
        [
            *(f"- Stays: {rule}." for rule in policy.keep),
            f"- Goes: {_act(policy)}.",
            f"- Refused above {limits.max_objects:,} objects, {limits.max_rows:,} rows, "
            f"{format_size(limits.max_bytes)} or {limits.max_percent:g} % within {format_duration(limits.window)}.",
            f"- {policy.mode.capitalize()}: "
            + (
                "acts by itself once somebody gave a standing approval of this very declaration."
                if policy.mode == "automatic"
                else "every plan is approved by a person."
            ),
        ],
    )


def describe_approval(system: System, name: str) -> str:
    policy = system.retention[name]
    lines = [
        "- Choose the plan as partition, repeat its digest and its count, say who you are and why.",
        "- What counts is the row in the control database; this event is only its picture.",
    ]
    if policy.second_person:
        lines.append("- Two different persons must approve.")
    if policy.act.acknowledge_history_loss:
        lines.append(
            "- Rows and files of older generations are gone for good after the purge: their history is lost, the "
            "database keeps no audit trail of them, and compliance may want them. The ledger keeps each row."
        )
    return paragraphs(f"A person's consent to one plan of `{name}`: {policy.describe}.", lines)


def describe_deletion(system: System, name: str) -> str:
    policy = system.retention[name]
    both = policy.act.objects is not None and policy.select.rows is not None
    return paragraphs(
        f"Executes an approved plan of `{name}`: {policy.describe}. The only step that changes anything.",
        [
            f"- {_act(policy).capitalize()}" + ("; objects before their rows." if both else "."),
            "- Every item is asked again right before its act: what is needed, held or changed by then stays.",
            f"- Quarantined objects are kept for {format_duration(policy.quarantine_for)}: `maintain restore "
            f"{system.name} PLAN`."
            if policy.act.objects == "quarantine"
            else "- Each act is in the ledger.",
        ],
    )


def _act(policy: Policy) -> str:
    act = policy.act
    parts = []
    if act.repoint:
        parts.append(f"{', '.join(act.repoint)} names its other file")
    if isinstance(act.objects, str):
        parts.append("objects are quarantined" if act.objects == "quarantine" else "objects are deleted for good")
    elif act.objects is not None:
        parts.append(f"objects move to `{act.objects.move_to}`")
    if act.rows:
        parts.append("rows are deleted")
    if act.set:
        parts.append(f"{', '.join(act.set)} of the row is set")
    return ", ".join(parts)


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


def paragraphs(first: str, lines: Iterable[str]) -> str:
    return "\n".join([first, "", *(line for line in lines)])
