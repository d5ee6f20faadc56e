"""What YAML may say, as Dagster sees it: thin builders of assets, checks, jobs, schedules and sensors.

Belongs here: Dagster. Not here: any work; an asset's body reads, calls a function of `reconcile/`,
and returns metadata.
"""

from maintenance_defs.components.maintained_system import MaintainedSystem
from maintenance_defs.components.triggers import (
    ApprovedPlans,
    Backlog,
    BurnIn,
    ColdMonths,
    HttpRequest,
    RowSensor,
    Schedule,
)

__all__ = [
    "ApprovedPlans",
    "Backlog",
    "BurnIn",
    "ColdMonths",
    "HttpRequest",
    "MaintainedSystem",
    "RowSensor",
    "Schedule",
]
