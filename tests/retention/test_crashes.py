"""A run that dies at any of its steps: the next one goes on, and nothing is lost, done twice or left unexplained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from maintenance_defs.control.retention.ledger import SUCCESS
from tests.support.chaos import Chaos, Killed
from tests.support.promises import finish, give_everything_back, hold
from tests.support.servers import moto_server
from tests.support.shop import Shop, made_shop


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path, endpoint: str) -> Iterator[Shop]:
    with made_shop(tmp_path, request.param, endpoint) as made:
        yield made


def fill(shop: Shop, policy: str, count: int) -> None:
    for _ in range(count):
        key = shop.app.upload(prefix="tmp/" if policy == "temporary" else "media/")
        if policy == "unsaved":
            shop.app.render(key)
        if policy == "expired":
            shop.app.render(key, "expired")
    shop.app.save(shop.app.render(shop.app.upload()) or "")


LONG = [
    pytest.param(kind, policy, hard, marks=() if (kind, policy) == ("folder", "unsaved") and hard else pytest.mark.long)
    for kind in ("folder", "plain", "versioned")
    for policy in ("unsaved", "expired", "orphans", "temporary")
    for hard in (True, False)
]


@pytest.mark.parametrize(("shop", "policy", "hard"), LONG, indirect=["shop"])
def test_dying_at_every_step_loses_nothing_and_repeats_nothing(shop: Shop, policy: str, hard: bool) -> None:
    """H07, F16, I11: each attempt dies one point later than the one before, until one gets through."""
    fill(shop, policy, 3)
    plan = shop.planned(policy)
    chaos = Chaos(shop)
    for at in range(1, 60):
        chaos.calm()
        chaos.at, chaos.hard = at, hard
        try:
            with chaos.installed():
                shop.execute(plan.id, units_per_batch=2)
            break
        except Killed:
            hold(shop)
        shop.lapse()
    assert at > 5
    finish(shop)
    hold(shop, settled=True)
    assert shop.state.plan(plan.id).state == "done"
    done = Counter((a["unit"], a["step"]) for a in shop.acts(plan.id) if a["outcome"] in SUCCESS and not a["of_plan"])
    assert set(done.values()) == {1}
    assert len(done) == plan.objects + plan.rows
    give_everything_back(shop)
    hold(shop, settled=True)
