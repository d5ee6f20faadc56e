"""What retention must remember: plans, consent, leases, the ledger, quarantine, holds and pauses.

Belongs here: state that many processes share, changed by compare-and-swap. Not here: what a plan holds
(an artefact), or how something is deleted (stores, databases).
"""

from maintenance_defs.control.retention.chain import Broken
from maintenance_defs.control.retention.consent import Approval, Consent, StandingApproval
from maintenance_defs.control.retention.holds import Covering, Hold, Holds, Pause
from maintenance_defs.control.retention.lease import PlanRow, how_to_approve
from maintenance_defs.control.retention.ledger import ACTS, Intent, Ledger, OpenIntent, Outcome, Window
from maintenance_defs.control.retention.plans import Plans
from maintenance_defs.control.retention.quarantine import REMOVED_KEYS, Quarantine
from maintenance_defs.control.retention.registry import Entry


class RetentionState(Plans, Consent, Ledger, Quarantine, Holds):
    """`Control.retention`. Every method is one transaction; times come from the control's clock unless given."""


__all__ = [
    "ACTS", "REMOVED_KEYS", "Approval", "Broken", "Covering", "Entry", "Hold", "Intent", "OpenIntent", "Outcome",
    "Pause", "PlanRow", "RetentionState", "StandingApproval", "Window", "how_to_approve",
]  # fmt: skip
