"""When people are told: numbers above which a check warns or an alert goes out. None of them decides what may go."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from maintenance_defs.core.quantities import Duration
from maintenance_defs.core.vocabulary import Declared

Count = Annotated[int, Field(ge=0, strict=True)]


class Orphans(Declared):
    """Orphan candidates of all stores together, as a number: what is much depends on the system."""

    warn: Count = 50
    critical: Count = 100

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.warn > self.critical:
            raise ValueError(f"warn ({self.warn}) is above critical ({self.critical})")
        return self


class AlertAbove(Declared):
    """Source: S1-39, S1-44, S1-53."""

    orphans: Orphans = Orphans()
    failures: Annotated[int, Field(ge=1, strict=True)] = 3  # runs in a row, of the reconciliation, a policy, an archive
    cycle: Duration = timedelta(seconds=30)  # a reconciliation; a policy's cycle with the reconciliation it began with
    query: Duration = timedelta(seconds=5)  # one declared reference, check or query
