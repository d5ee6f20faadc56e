"""Everything the platform refuses or fails with.

    MaintenanceError
    ├── DeclarationError        YAML says something that cannot be meant (file, line)
    ├── EnvironmentMissing      a named environment variable is not set
    ├── UnknownName             somebody asks for a store or table that the declaration does not name
    ├── Refused                 inputs are readable, but no claim may be built on them
    │   ├── AsOfInTheFuture     the instant asked for is later than a clock that was read
    │   ├── ConsentRefused      an approval, or what it stands for, does not hold
    │   ├── Busy                another run holds the system or the plan
    │   ├── LeaseLost           this run no longer holds the plan it works on
    │   ├── Paused              a person switched the system or policy off
    │   └── Held                a hold covers what was about to be done
    ├── SourceUnavailable       a database, table or column could not be read
    │   └── RowSecurity         row-level security would hide rows
    ├── StoreUnavailable        a store could not be reached or listed
    │   ├── StoreDenied         reached, but the credentials may not do this
    │   └── IncompleteListing   a listing ended before its end
    ├── ArtefactError           one of our own files is not what its control row says
    │   └── ObjectDamaged       an archive object is missing, cut short or other bytes
    └── Mismatch                an archive does not hold what its source holds

A message says what happened, that nothing was lost, and what to do. `transient` tells whether
trying again may help; only those are retried.
"""

from __future__ import annotations

from datetime import datetime


class MaintenanceError(Exception):
    """Base of all errors a person is meant to read."""

    transient = False


class DeclarationError(MaintenanceError):
    """A declaration does not load. `problems` are complete sentences that name file and line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class EnvironmentMissing(MaintenanceError):
    """A variable that a declaration names has no value here."""

    def __init__(self, variable: str, needed_for: str) -> None:
        self.variable = variable
        super().__init__(
            f"{variable} is not set; it names {needed_for}. Nothing was read. "
            f"Set it, or run `maintain demo` to work on the demonstration data."
        )


class UnknownName(MaintenanceError):
    """What was asked for is not declared: a word on the command line, nothing about the data."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class Refused(MaintenanceError):
    """The run's verdict is `refused(reason)`: `reason` is one word for machines, the text for people."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class AsOfInTheFuture(Refused):
    """`--as-of` lies after the earliest clock of worker, store and database."""

    def __init__(self, message: str) -> None:
        super().__init__("as_of_in_the_future", message)


class ConsentRefused(Refused):
    """Wrong digest, count, state or person, or too late (H02, H04, I9). `expected` and `given` are the numbers."""

    def __init__(self, reason: str, message: str, *, expected: object = None, given: object = None) -> None:
        self.expected = expected
        self.given = given
        super().__init__(reason, message)


class Busy(Refused):
    """Another process reconciles the system, or another run acts on it (M04). Trying again later may help."""

    transient = True

    def __init__(
        self, message: str, *, plan_id: str | None = None, owner: str | None = None, since: datetime | None = None
    ) -> None:
        self.plan_id = plan_id
        self.owner = owner
        self.since = since
        super().__init__("busy", message)


class LeaseLost(Refused):
    """The lease lapsed or was taken over: whoever gets this must stop acting at once (I11)."""

    def __init__(self, plan_id: str, message: str) -> None:
        self.plan_id = plan_id
        super().__init__("lease_lost", message)


class Paused(Refused):
    """The system or policy is paused (C-14)."""

    def __init__(self, message: str) -> None:
        super().__init__("paused", message)


class Held(Refused):
    """Holds cover some of the steps; none was recorded (K11). `places` are their positions in what was given."""

    def __init__(self, message: str, places: dict[int, int]) -> None:
        self.places = places  # position -> id of a hold that covers it
        super().__init__("held", message)


class SourceUnavailable(MaintenanceError):
    """A database, table or column could not be read: never treated as an empty set."""

    reason = "source_unavailable"

    def __init__(self, message: str, *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(message)


class RowSecurity(SourceUnavailable):
    """The server would have hidden rows from us without saying so (hazard A07)."""

    reason = "rls_filtered"


class StoreUnavailable(MaintenanceError):
    """A store could not be reached: not the same as an empty store (hazard A14)."""

    reason = "store_unreachable"

    def __init__(self, message: str, *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(message)


class StoreDenied(StoreUnavailable):
    """The store answered 401 or 403: the truth about the key or prefix is unknown (hazard F20)."""

    reason = "store_denied"


class IncompleteListing(StoreUnavailable):
    """A listing broke off; what was read proves nothing about what was not (hazard A03)."""

    reason = "incomplete"


class ArtefactError(MaintenanceError):
    """An artefact is missing or does not have the digest its control row records."""


class ObjectDamaged(ArtefactError):
    """An archive object is not what was stored (C38, C41, H113). reason: "missing", "truncated", "other_bytes"."""

    def __init__(self, reason: str, key: str, message: str) -> None:
        self.reason = reason
        self.key = key
        super().__init__(message)


class Mismatch(MaintenanceError):
    """An archive file is not what was written, or not what the source holds (V1): nothing may be removed.

    `archived` and `source` are the two values that differ, `column` and `organisation` where.
    """

    def __init__(
        self,
        message: str,
        *,
        organisation: str | None = None,
        column: str | None = None,
        archived: object = None,
        source: object = None,
    ) -> None:
        self.organisation = organisation
        self.column = column
        self.archived = archived
        self.source = source
        super().__init__(message)
