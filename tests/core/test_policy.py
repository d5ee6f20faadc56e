"""A retention policy that cannot be understood, keeps nothing, overlaps or is too loose does not load (I13, I15)."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from maintenance_defs.core.errors import DeclarationError
from maintenance_defs.core.policy import Policy, parse_window
from maintenance_defs.declarations import load_systems
from tests.components.conftest import write

FILE = "assets/shop/defs.yaml"
SHOP = """\
type: maintenance_defs.components.MaintainedSystem
attributes:
  name: shop
  database: {url_env: SHOP_DATABASE_URL}
  stores:
    files:
      url_env: SHOP_FILES_URL
      scopes:
        - {prefix: docs/, exclusive: true}
        - {prefix: tmp/, class: temporary, exclusive: true}
        - {prefix: music/, class: library, exclusive: true}
        - {prefix: shared/}
    cold: {url_env: SHOP_COLD_URL, scopes: [{prefix: "", class: archive}]}
  references:
    - {table: docs, id: id, store: files, object: {column: key}}
  checks:
    late:
      describe: Late ones.
      table: docs
      id: id
      where: made_at < 1
  preset: production
  preset_env: SHOP_PRESET
  presets:
    testing: {age: 1 h}
    production: {age: 2 h}
  retention:
    orphans:
      describe: a file that no document names
      select: {orphans: files, prefix: docs/}
      keep: [{younger_than: 30 d, days_env: SHOP_DAYS}]
      act: {objects: quarantine}
      enabled_env: SHOP_DELETE
    old:
      describe: an old document
      select: {rows: docs, id: id, where: state = 'old'}
      keep: [{younger_than: age, by: made_at}]
      act: {objects: quarantine, rows: delete}
    temporary:
      describe: a temporary file
      select: {objects: files, prefix: tmp/}
      keep: [{younger_than: 2 d}]
      act: {objects: delete}
"""
AGE = "younger_than: 30 d, days_env: SHOP_DAYS"
HALF = "rows: docs, id: id, where: a = 1, generations: {of: a, by: b, order: c, tie: id, complete_column: k}"
OLD = "keep: [{younger_than: age, by: made_at}]"
SELECT = "select: {rows: docs, id: id, where: state = 'old'}"
ACT = "act: {objects: quarantine, rows: delete}"
TEMPORARY = "{objects: files, prefix: tmp/}"
GENERATIONS = "select: {rows: docs, id: id, where: state = 'old', generations: {of: a, by: b, order: c, tie: id}}"

WRONG = {
    # what is replaced, by what: line, and what the message must say
    "in the future (G06)": (AGE, "younger_than: 2040-01-01", 31, ["younger_than"]),
    "negative (G06)": (AGE, "younger_than: -3 d", 31, ["'-3 d'"]),
    "not a number (G06)": (AGE, "younger_than: .nan", 31, ["nan"]),
    "infinite (G06)": (AGE, "younger_than: .inf", 31, ["inf"]),
    "zero (G06)": (AGE, "younger_than: 0 d", 31, ["'0 d'"]),
    "no unit (G06)": (AGE, "younger_than: 30", 31, ["30"]),
    "soon (G06)": (AGE, "younger_than: soon", 25, ["'soon'"]),
    "below the floor (G07)": (AGE, "younger_than: 3 min", 31, ["3 min is below the floor of 1 d", "unsafe_below"]),
    "preset below the floor (G07)": (AGE, "younger_than: age", 25, ["presets.testing.age: 1 h is below the floor"]),
    "empty reason (G07)": (AGE, "younger_than: 3 min, unsafe_below_floor: ''", 31, ["unsafe_below_floor", "empty"]),
    "enabled is no truth (G09)": ("enabled_env: SHOP_DELETE", "enabled: maybe", 33, ["'maybe'", "true or false"]),
    "no keep rule (I13)": (OLD + "\n", "\n", 34, ["a policy without a keep rule lets everything go"]),
    "empty keep (I13)": (OLD, "keep: []", 37, ["a policy without a keep rule lets everything go"]),
    "no selector (G14)": (SELECT, "select: {}", 36, ["select exactly one of rows, objects, orphans"]),
    "no where (G14)": (SELECT, "select: {rows: docs, id: id}", 36, ["without where every row is meant"]),
    "empty where (G14)": (SELECT, "select: {rows: docs, id: id, where: ''}", 36, ["where"]),
    "where true (G14)": (SELECT, "select: {rows: docs, id: id, where: (1 = 1)}", 36, ["means every row"]),
    "two selectors": (SELECT, "select: {rows: docs, id: id, where: a = 1, orphans: files}", 36, ["exactly one of"]),
    "two reasons in one": (OLD, "keep: [{younger_than: age, by: made_at, newest_generations: 1}]", 37, ["exactly one"]),
    "unknown keep rule": (OLD, "keep: [{younger_then: 30 d}]", 37, ["'younger_then'", "Did you mean 'younger_than'?"]),
    "option of another rule": (OLD, "keep: [{rows: SELECT 1, match: id, by: made_at}]", 37, ["by belongs to younger"]),
    "floor of rows": (OLD, "keep: [{younger_than: age, by: made_at, unsafe_below_floor: x}]", 37, ["to orphans"]),
    "complete without values": (SELECT, f"select: {{{HALF}}}", 36, ["complete_column and complete_values belong"]),
    "rows without a match": (OLD, "keep: [{rows: SELECT 1}]", 37, ["say which column is compared: match"]),
    "state of an object": (AGE, "while: a = 1", 31, ["needs a policy that selects rows"]),
    "age without column": (OLD, "keep: [{younger_than: 30 d}]", 37, ["say by which column"]),
    "unknown timing": (OLD, "keep: [{younger_than: agee, by: made_at}]", 25, ["it lacks 'agee'"]),
    "timing that is none": ("testing: {age: 1 h}", "testing: {age: 1}", 25, ["presets.testing.age"]),
    "timing of a check": ("where: made_at < 1", "where: made_at < :timing_horizon", 25, ["it lacks 'horizon'"]),
    "unknown preset": ("preset: production", "preset: prod", 22, ["'prod' is not declared", "testing, production"]),
    "keeps no generation": (OLD, "keep: [{newest_generations: 0}]", 37, ["newest_generations"]),
    "generations of nothing": (OLD, "keep: [{newest_generations: 1}]", 37, ["needs select.generations"]),
    "history lost (S0-25)": (SELECT, GENERATIONS, 38, ["loses their history", "acknowledge_history_loss: true"]),
    "acts on nothing": (ACT, "act: {}", 38, ["an act needs objects, rows, set or repoint"]),
    "deletes and changes": (ACT, "act: {rows: delete, set: {state: gone}}", 38, ["deleted or changed, not both"]),
    "rows without rows": ("act: {objects: delete}", "act: {objects: delete, rows: delete}", 43, ["selects rows"]),
    "unknown act": (ACT, "act: {objects: erase}", 38, ["erase"]),
    "unknown store": ("{orphans: files", "{orphans: fils", 30, ["'fils' is not declared"]),
    "store without references": ("{orphans: files, prefix: docs/}", "{orphans: cold}", 30, ["orphans"]),
    "move to nowhere": (ACT, "act: {objects: {move_to: ice}}", 38, ["'ice' is not declared"]),
    "not exclusive (E05)": ("prefix: docs/}\n", "prefix: shared/}\n", 30, ["not declared exclusive"]),
    "library (E04)": ("prefix: docs/}\n", "prefix: music/}\n", 30, ["of class library; it is only reported"]),
    "product as cache": (TEMPORARY, "{objects: files, prefix: docs/}", 41, ["of class product"]),
    "outside every scope": ("prefix: docs/}\n", "prefix: other/}\n", 30, ["no scope of store 'files' holds 'other/'"]),
    "overlap above (E04)": (TEMPORARY, "{orphans: files, prefix: doc}", 39, ["'orphans' may take the same"]),
    "library within (I13)": ("prefix: docs/}\n", 'prefix: ""}\n', 30, ["'music/' of store 'files' is of class"]),
    "nothing refers there (E05)": ("store: files, object", "store: cold, object", 30, ["no reference names"]),
    "overlap (E04)": (TEMPORARY, "{orphans: files, prefix: docs/part/}", 39, ["it and 'orphans' may take the same"]),
    "undo beyond the ledger (I12)": (ACT, ACT + "\n      quarantine_for: 500 d", 39, ["500 d is longer than"]),
    "quarantine for nothing (I12)": (ACT, ACT + "\n      quarantine_for: 0 d", 39, ["'0 d'"]),
    "limit negative": (ACT, ACT + "\n      limits: {max_objects: -1}", 39, ["max_objects"]),
    "limit no number (G06)": (ACT, ACT + "\n      limits: {max_percent: .nan}", 39, ["max_percent"]),
    "limit above all": (ACT, ACT + "\n      limits: {max_percent: 101}", 39, ["max_percent"]),
    "tenants by halves": (ACT, ACT + "\n      limits: {tenant: org}", 39, ["belong together"]),
    "tenant of an object (I15)": (
        "act: {objects: delete}",
        "act: {objects: delete}\n      limits: {tenant: org, max_items_per_tenant: 1}",
        44,
        ["number of a folder"],
    ),
    "window without end": (ACT, ACT + "\n      window: 02:00", 39, ["window"]),
    "window of no zone": (ACT, ACT + "\n      window: 02:00-05:00 Mars/Base", 39, ["'Mars/Base' is not a time zone"]),
    "nobody to ask": (ACT, ACT + "\n      mode: automatic\n      second_person: true", 40, ["needs people"]),
    "unknown field": (ACT, ACT + "\n      dry_run: true", 39, ["unknown field 'dry_run'"]),
}  # fmt: skip


def problems(root: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(DeclarationError) as refused:
        load_systems(write(root, {FILE: text}), environment or {})
    return refused.value.problems


def test_the_declaration_that_is_made_wrong_below_is_right(tmp_path: Path) -> None:
    assert list(load_systems(write(tmp_path, {FILE: SHOP}), {})["shop"].system.retention) == [
        "orphans", "old", "temporary",
    ]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "said"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_policy_is_refused_with_file_line_and_reason(
    tmp_path: Path, old: str, new: str, line: int, said: list[str]
) -> None:
    assert SHOP.count(old) == 1
    found = problems(tmp_path, SHOP.replace(old, new))
    assert all(part in found[0] for part in [f"({FILE}:{line})", *said]), found


VARIABLES = {
    "SHOP_DAYS": (31, ["0", "-1", "30d", "1.5", "NaN", "soon", "²"]),
    "SHOP_DELETE": (33, ["maybe", "2", "t", "enabled"]),
    "SHOP_PRESET": (23, ["prod", "Testing"]),
}


@pytest.mark.parametrize(
    ("variable", "line", "value"),
    [(variable, line, value) for variable, (line, values) in VARIABLES.items() for value in values],
)
def test_a_wrong_variable_is_refused_with_its_value(tmp_path: Path, variable: str, line: int, value: str) -> None:
    """A2-10, G06, G09."""
    (found,) = problems(tmp_path, SHOP, {variable: value})
    assert f"{variable} is {value!r}" in found
    assert f"({FILE}:{line})" in found


@pytest.mark.parametrize("value", ["", " ", "false", "False", "0", "no", "off", "true", "YES", "1"])
def test_a_variable_that_says_yes_or_no_is_understood(tmp_path: Path, value: str) -> None:
    load_systems(write(tmp_path, {FILE: SHOP}), {"SHOP_DELETE": value, "SHOP_DAYS": "7", "SHOP_PRESET": "testing"})


def test_a_declared_overlap_loads(tmp_path: Path) -> None:  # E04: then keep wins in both
    text = SHOP.replace(TEMPORARY, "{orphans: files, prefix: docs/}")
    text += "      overlaps: orphans\n"
    load_systems(write(tmp_path, {FILE: text}), {})


def test_defaults_are_the_safe_choice() -> None:  # G04
    policy = Policy.model_validate(
        {
            "describe": "x",
            "select": {"orphans": "files"},
            "keep": [{"younger_than": "30 d"}],
            "act": {"objects": "quarantine"},
        }
    )
    assert (policy.mode, policy.observations) == ("manual", 2)
    assert (policy.limits.max_objects, policy.limits.max_rows, policy.limits.max_percent) == (1000, 1000, 10.0)


def test_a_window_may_pass_midnight() -> None:
    start, end, zone = parse_window("22:00-02:00 Europe/Warsaw")
    assert (start, end, zone.key) == (1320, 120, "Europe/Warsaw")
    with pytest.raises(ValueError, match="is empty"):
        parse_window("02:00-02:00")
    with pytest.raises(ValidationError):
        Policy.model_validate({"describe": "x", "window": "25:00-26:00"})
