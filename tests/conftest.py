"""Options and tiers of the whole suite; fixtures of servers live in tests/support."""

import os

import pytest

TIERS = {"long": "a longer randomised run", "real": "needs a real server"}

pytest_plugins = ["tests.support.postgres", "tests.support.quick", "tests.support.real_fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    for tier, what in TIERS.items():
        parser.addoption(f"--{tier}", action="store_true", help=f"also run tests marked {tier}: {what}")
    parser.addoption("--pg", choices=["embedded", "system"], default="embedded", help="which PostgreSQL to test on")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["MAINTENANCE_TEST_PG"] = config.getoption("--pg")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for tier, what in TIERS.items():
        if not config.getoption(f"--{tier}"):
            skip = pytest.mark.skip(reason=f"{what}; run ./maintain test --{tier}")
            for item in items:
                if tier in item.keywords:
                    item.add_marker(skip)
