"""What the storage of a plan's objects costs, where a price is declared (S0-18)."""

from __future__ import annotations

from typing import Any

from maintenance_defs.core.declaration import System
from maintenance_defs.core.policy import Policy
from maintenance_defs.core.quantities import monthly_cost
from maintenance_defs.retention.evidence import Evidence

_GOING = "SELECT store, sum(size_bytes)::BIGINT FROM steps WHERE key IS NOT NULL GROUP BY store"
_NAMED = """
SELECT store, sum(size_bytes)::BIGINT FROM facts
SEMI JOIN (SELECT store, key FROM own_objects SEMI JOIN expired USING (row_id)) USING (store, key)
GROUP BY store
"""


def costs(system: System, policy: Policy, evidence: Evidence) -> list[dict[str, Any]]:
    """Of each priced store: what, size_bytes, price_per_gb_month, per_month, in the currency of the price.

    what: 'going', the objects that would go; 'superseded', those that rows name which are only marked, and which
        stay where they are. A store without a price, or whose objects are not known, is not there.
    """
    only_marked = policy.act.objects is None and policy.select.rows is not None
    found = evidence.con.execute(_NAMED if only_marked else _GOING).fetchall()
    sizes = {store: size for store, size in found if size}
    return [
        {
            "store": name,
            "what": "superseded" if only_marked else "going",
            "size_bytes": sizes[name],
            "price_per_gb_month": store.price_per_gb_month,
            "per_month": monthly_cost(sizes[name], store.price_per_gb_month),
        }
        for name, store in system.stores.items()
        if store.price_per_gb_month is not None and name in sizes
    ]
