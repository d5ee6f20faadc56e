"""What a policy would take, and why the rest stays.

Belongs here: selecting, keep rules, the judgement of objects, all as SQL in the calculator. Not here: limits,
consent, or any change.
"""

from maintenance_defs.core.policy import Policy
from maintenance_defs.retention.choosing.base import KEPT_ITEMS, STEPS, STEPS_FILE, Choice, count_kept, totals
from maintenance_defs.retention.choosing.objects import ObjectChoice
from maintenance_defs.retention.choosing.rows import RowChoice

__all__ = ["KEPT_ITEMS", "STEPS", "STEPS_FILE", "Choice", "choice_of", "count_kept", "totals"]


def choice_of(policy: Policy) -> type[Choice]:
    """How this policy chooses."""
    return RowChoice if policy.select.rows is not None else ObjectChoice
