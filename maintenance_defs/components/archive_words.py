"""What each asset of an archive is, in words made from its declaration: the text at the top of its page."""

from maintenance_defs.archive.declared import find_any
from maintenance_defs.components.words import paragraphs
from maintenance_defs.core.archive import FOREVER, ColumnArchive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_duration


def describe_archive(system: System, name: str) -> str:
    archive = system.archives[name]
    layouts = {"per_org": "one for each organisation", "by_class": "one for each period of keeping", "shared": "one"}
    return paragraphs(
        f"Months of `{archive.table}` as Parquet, proven: {archive.describe}",
        [
            f"- A partition is a month that has been over for {format_duration(archive.hot)}; months are those that "
            f"the database has, by the real bounds, in UTC.",
            f"- Its files ({layouts[archive.layout]}) in `{archive.store}` were fetched back whole and compared with "
            f"the rows, value by value.",
            "- Nothing leaves the table here. Materialising a month again changes nothing, also once it has left.",
        ],
    )


def describe_plan(system: System, name: str) -> str:
    archive = find_any(system, name)
    keep = FOREVER if archive.keep is None else format_duration(archive.keep)
    own = " or as long as the organisation has it" if archive.keep_by or archive.keep_for else ""
    ended = "ended" if name in system.archives else "was finished"
    return paragraphs(
        f"What of `{name}` would leave its table now, and which archived rows are over their time. A plan changes "
        f"nothing; it is the rehearsal.",
        [
            "- Two plans: the removal from the table, and the expiry of files. Each is approved by itself.",
            f"- Stays hot: what {ended} less than {format_duration(archive.hot)} ago. Kept in all: {keep}{own}.",
            "- Stays: what is on hold, and what cannot be dated.",
            f"- {archive.mode.capitalize()}: "
            + (
                "carried out by itself once somebody gave a standing approval of this very declaration."
                if archive.mode == "automatic"
                else "every plan is approved by a person."
            ),
        ],
    )


def describe_approval(system: System, name: str) -> str:
    lines = [
        "- Choose the plan as partition, repeat its digest and its count, say who you are and why.",
        "- What counts is the row in the control database; this event is only its picture.",
        "- An organisation whose period became shorter needs two persons.",
    ]
    archive = find_any(system, name)
    if archive.second_person:
        lines[-1] = "- Two different persons must approve."
    return paragraphs(f"A person's consent to one plan of `{name}`: {archive.describe}", lines)


def describe_removal(system: System, name: str) -> str:
    archive = find_any(system, name)
    if isinstance(archive, ColumnArchive):
        return paragraphs(
            f"Carries out an approved plan of `{name}`: whole values of `{archive.table}.{archive.column}` go to "
            f"files, slim ones stay in their rows.",
            [
                "- A value is stored, fetched back and compared byte for byte before its row is changed.",
                "- A row that was changed meanwhile, is held, or is not understood keeps its value.",
                f"- One value back into its row: `maintain archive restore {system.name} {name} ID`.",
            ],
        )
    window = archive.undo_window
    wait = f"can be put back for {format_duration(window)}" if window else "is dropped at once"
    return paragraphs(
        f"Carries out an approved plan of `{name}`: rows leave `{archive.table}`.",
        [
            "- Only what is proven leaves, and only while the rows still are what was proven: they are compared again "
            "in the transaction that removes them.",
            f"- A partition is detached and {wait}; the plan after that drops it.",
            "- From the first row on, readers find the month in the archive: no row is out of sight.",
            "- One month that fails does not stop the others.",
        ],
    )


def describe_expiry(system: System, name: str) -> str:
    return paragraphs(
        f"Carries out an approved plan of `{name}`: archived rows that are over their time are gone for good.",
        [
            "- Readers stop seeing a file before it is deleted; then every version of it is, and its absence is looked "
            "at.",
            "- Rows of others in the same file are written anew first and proven.",
            "- What is on hold, or locked by its store, stays and is reported.",
        ],
    )


def not_cold(system: System, name: str, label: str) -> str:
    archive = system.archives[name]
    return (
        f"{archive.table} has no month {label} that has been over for {format_duration(archive.hot)}: it is still hot, "
        f"or holds no rows. Nothing was archived. The plan of {name} lists the months that may go."
    )


def describe_ahead(system: System, name: str) -> str:
    archive = system.archives[name]
    return paragraphs(
        f"The partitions of `{archive.table}` for this month and the {archive.months_ahead} next ones, made before "
        f"their rows come.",
        [
            "- Whole months of UTC, fitted to what is there; what exists stays as it is.",
            "- Readers and writers go on meanwhile. Nothing is removed, and nothing that removes waits for this (L7).",
        ],
    )


def describe_drill(system: System, name: str) -> str:
    return paragraphs(
        f"Can what was archived of `{name}` still be read, and brought back?",
        [
            "- Files of the newest months are fetched back whole; every value is compared with what was proven.",
            "- One month, each time another one, is restored into a table of its own, compared, and removed again.",
            "- Nothing that is in use is touched.",
        ],
    )
