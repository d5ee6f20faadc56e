"""What the steps of all assets share: what they are told at launch, waiting their turn, and how they fail."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

import dagster as dg
from pydantic import Field

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Busy, MaintenanceError, Refused
from maintenance_defs.core.quantities import parse_instant

TAG = "maintenance/system"
BUSY_SECONDS = 3600  # a step waits so long for another process that reconciles the same system
RETRIES, RETRY_SECONDS = 2, 30  # of what may be over soon; longer outages are the next run's business
Steps = Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any]]


class Reconcile(dg.Config):
    """Nothing needs to be filled in: the run is judged as of now."""

    as_of: str | None = Field(
        default=None,
        description="Judge as of this instant, such as 2024-01-15T03:00:00Z; never later than now. "
        "What was written after it is young. Given to inventory, it holds for the whole run.",
    )

    def instant(self) -> datetime | None:
        """Raises Refused for what is no instant."""
        try:
            return parse_instant(self.as_of) if self.as_of else None
        except ValueError:
            # Not repeated: the launchpad takes {env: NAME}, and the log would show what stands in that variable.
            raise Refused(
                "as_of_unreadable",
                "as_of is not an instant. Nothing was read. Write it with its zone, such as '2024-01-15T03:00:00Z'.",
            ) from None


class Planning(Reconcile):
    """Nothing needs to be filled in: the whole policy is planned, as of now."""

    groups: list[str] = Field(
        default=[],
        description="Plan only these groups, each judged whole: tracking ids, where generations belong to one; "
        "else ids of rows. Empty: everything. A sensor names those in which something is new.",
    )


def job_name(system: str, run: str = "reconciliation") -> str:
    """What schedules and sensors start."""
    return f"{system}_{run}"


@contextmanager
def alone(context: dg.AssetExecutionContext, system: System, home: Home) -> Iterator[None]:
    """Not while another process works on the system; said before it waits (M04)."""
    with ExitStack() as held:
        try:
            held.enter_context(home.control.alone(system.name))
        except Busy:
            context.log.info(f"{system.name} is being reconciled by another process: waiting for it.")
            held.enter_context(home.control.alone(system.name, BUSY_SECONDS))
        yield


@contextmanager
def told() -> Iterator[None]:
    """Our own errors end the step with their text; only what may be over soon is tried again."""
    try:
        yield
    except MaintenanceError as error:
        if error.transient:
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS) from error
        raise dg.Failure(str(error), allow_retries=False) from None


def failed(artefacts: Sequence[Artefact]) -> dg.Failure | dg.RetryRequested:
    """Why there is nothing to materialise; a request to try again where all of it may be over soon."""
    message = "\n".join(str(a.evidence.get("message") or a.reason) for a in artefacts)
    if all(a.evidence.get("transient") for a in artefacts):
        retry = dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS)
        retry.__cause__ = MaintenanceError(message)  # else the page only says that it was tried often enough
        return retry
    return dg.Failure(message, allow_retries=False)
