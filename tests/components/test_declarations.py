"""Whatever is wrong with YAML is said at load: which file and line, which value, what to write instead (I15)."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maintenance_defs.core.errors import DeclarationError
from maintenance_defs.declarations import deployment_root, load_systems, load_triggers
from tests.components.conftest import PAPERS, SCHEDULE, write

ROOT = Path(__file__).parents[2]
FILE = "assets/papers/defs.yaml"


def problems(root: Path) -> list[str]:
    with pytest.raises(DeclarationError) as refused:
        load_systems(root)
    return refused.value.problems


def trigger_problems(root: Path, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(DeclarationError) as refused:
        load_triggers(root, environment=environment or {})
    return refused.value.problems


WRONG = {
    # what is replaced, by what: line, and what the message must say
    "unknown field": ("owners:", "ownerz:", 5, ["unknown field 'ownerz'", "Known: name,", "Did you mean 'owners'?"]),
    "deep field": ("exclusive: true", "exclusiv: true", 12, ["'exclusiv'", "Known of stores.files.scopes.0: p"]),
    "field missing": ("url_env: PAPERS_COVERS_URL", "in_flight: 2 h", 13, ["'url_env' is missing in stores.covers"]),
    "size without unit": ("1 MB", "1", 11, ["stores.files.limit: 1 is not a size", "'10 GB'"]),
    "negative size": ("1 MB", "-1 MB", 11, ["'-1 MB' is not a size"]),
    "NaN": ("1 MB", ".nan", 11, ["nan is not a size"]),
    "no age (G06)": ("limit: 1 MB", "in_flight: soon", 11, ["'soon' is not an age", "'24 h'"]),
    "zero age (G06)": ("limit: 1 MB", "in_flight: 0 d", 11, ["'0 d' is not an age"]),
    "number for text": ("prefix: docs/", "prefix: 30", 12, ["scopes.0.prefix: YAML reads this as 30", "quotes"]),
    "off for text": ("describe: Papers without a title.", "describe: off", 21, ["YAML reads this as False", "quotes"]),
    "nothing": ("describe: Papers without a title.", "describe:", 21, ["there is no value"]),
    "unbounded prefix": ("prefix: docs/", "prefix: docs", 12, ["'docs' must end in '/'"]),
    "unknown class": ("class: library", "class: libary", 15, ["'libary' is not known", "Did you mean 'library'?"]),
    "unknown store": ("store: files,", "store: fils,", 17, ["references.0.store: 'fils' is not", "'files'?"]),
    "no list": ("checks:", "queries: [a]\n  checks:", 19, ["queries: ['a'] does not fit", "{name: value}"]),
    "no boolean (G09)": ("exclusive: true", 'exclusive: ""', 12, ["exclusive: '' does not fit", "true or false"]),
    "no name": ("    untitled:", "    Un-titled:", 20, ["'Un-titled' is not a name", "small letters"]),
    "guard too high": ("checks:", "guards: {max_orphan_percent: 101}\n  checks:", 19, ["101 is too large", "most 100"]),
    "guard no number": ("checks:", "guards: {max_orphan_percent: x}\n  checks:", 19, ["'x' does not fit", "a number"]),
    "twice": ("owners:", "name: other\n  owners:", 5, ["'name' stands twice, in line 3 too"]),
    "tab": ("  owners:", "\towners:", 5, ["a tab"]),
    "unclosed": ("[sqlite, s3]", "[sqlite, s3", 7, ["lacks a comma or its closing bracket"]),
    "tag": ("description: P", "description: !env P", 4, ["a text that begins with !", "no tags"]),
    "control sign": ("Papers of", "Papers\x07of", 4, ["#x0007"]),
    "anchor in itself": ("owners: [", "owners: &a [*a, ", 5, ["an alias stands inside of what it repeats"]),
    "key no text": ("owners:", "on: x\n  owners:", 5, ["reads the field name 'on' as a truth value", "quotes"]),
    "unknown type": ("MaintainedSystem", "MaintainedSystm", 1, ["MaintainedSystm' is not known", "Did you mean"]),
    "type in wrong folder": ("MaintainedSystem", "Schedule", 1, ["is not known in assets/", "belongs in sensors/"]),
    "no day": ("description: Papers of a club.", "description: 2024-13-45", 4, ["form of YAML's timestamp", "quotes"]),
    "no number": ("description: Papers of a club.", "description: 0b_", 4, ["form of YAML's int and is none"]),
    "no truth": ("description: Papers of a club.", "description: !!bool x", 4, ["form of YAML's bool and is none"]),
    "half a character": ("Papers of a club.", '"\\ud800"', 4, ["#xd800 may not stand"]),
    "NUL": ("Papers of a club.", '"\\0"', 4, ["#x0000 may not stand"]),
    "store of nothing": ("store: files,", "store: [],", 17, ["references.0.store: this is empty"]),
    "no id": ("id: id, store: files", "id: [], store: files", 17, ["references.0.id: this is empty"]),
    "blank id": ("id: id, store: files", "id: ' ', store: files", 17, ["references.0.id.0: this is empty"]),
    "blank table": ("table: docs, id: id, store: files", "table: '', id: id, store: files", 17, ["table: this is e"]),
    "blank column": ("{column: key}", "{column: ''}", 17, ["references.0.object.column: this is empty"]),
    "SQL file": (
        "checks:",
        "queries: {q: {describe: Q, sql: q.sql}}\n  checks:",
        19,
        ["queries.q.sql: there is no file 'q.sql'"],
    ),
    "SQL folder": ("checks:", "queries: {q: {describe: Q, sql: ''}}\n  checks:", 19, ["there is no file ''"]),
    "capitals": ("owners:", "OWNERS:", 5, ["Did you mean 'owners'?"]),
    "envelope": ("attributes:", "requirements: {}\nattributes:", 2, ["unknown field 'requirements'"]),
    "no attributes": ("attributes:", "attribute:", 2, ["unknown field 'attribute'", "Did you mean 'attributes'?"]),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "said"), WRONG.values(), ids=list(WRONG))
def test_wrong_yaml_is_refused_with_file_line_value_and_hint(
    tmp_path: Path, old: str, new: str, line: int, said: list[str]
) -> None:
    assert old in PAPERS
    found = problems(write(tmp_path, {FILE: PAPERS.replace(old, new, 1)}))
    assert all(part in found[0] for part in [f"{FILE}:{line})", *said]), found


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    one = PAPERS.replace("owners:", "ownerz:").replace("1 MB", "1")
    other = PAPERS.replace("papers", "letters").replace("prefix: docs/", "prefix: docs")
    found = problems(write(tmp_path, {FILE: one, "assets/letters/defs.yaml": other, "assets/x/defs.yaml": "a: [\n"}))
    assert len(found) == 4
    assert [sum(f"{name}/defs.yaml" in text for text in found) for name in ("papers", "letters", "x")] == [2, 1, 1]


def test_a_url_where_a_variable_belongs_is_not_repeated(tmp_path: Path) -> None:
    found = problems(write(tmp_path, {FILE: PAPERS.replace("PAPERS_DATABASE_URL", '"postgresql://me:hunter2@db/x"')}))
    assert "database.url_env: this is not the name of an environment variable" in found[0]
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize("field", ["limit: 1 MB", "class: library", "name: papers", "checks:"])
def test_a_login_in_a_misplaced_value_is_not_repeated(tmp_path: Path, field: str) -> None:
    name = field.partition(":")[0]
    wrong = f"{name}: " + ("['s3://me:hunter2@host/x']\n  queries:" if name == "checks" else "'s3://me:hunter2@host/x'")
    found = problems(write(tmp_path, {FILE: PAPERS.replace(field, wrong, 1)}))
    assert name in found[0]
    assert "hunter2" not in "".join(found)


def test_a_system_declared_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    found = problems(write(tmp_path, {FILE: PAPERS, "assets/z/defs.yaml": "# again\n" + PAPERS}))
    assert found[0] == f"system 'papers' is declared twice: {FILE}:3, assets/z/defs.yaml:4."


OTHER = PAPERS.replace("name: papers", "name: letters").replace("PAPERS_COVERS_URL", "LETTERS_COVERS_URL")


@pytest.mark.parametrize("prefix", ["docs/", "docs/old/", '""'])
def test_scopes_that_overlap_in_one_bucket_are_refused(tmp_path: Path, prefix: str) -> None:  # E04
    other = OTHER.replace("prefix: docs/", f"prefix: {prefix}")
    found = problems(write(tmp_path, {FILE: PAPERS, "assets/letters/defs.yaml": other}))
    assert len(found) == 1
    assert f"{FILE}:12" in found[0]
    assert "assets/letters/defs.yaml:12" in found[0]
    assert "overlap in PAPERS_FILES_URL" in found[0]


@pytest.mark.parametrize("prefix", ["docs2/", "other/"])
def test_scopes_side_by_side_in_one_bucket_are_fine(tmp_path: Path, prefix: str) -> None:
    other = OTHER.replace("prefix: docs/", f"prefix: {prefix}")
    assert list(load_systems(write(tmp_path, {FILE: PAPERS, "assets/letters/defs.yaml": other}))) == [
        "letters",
        "papers",
    ]


@pytest.mark.parametrize(
    ("one", "other", "prefix", "same"),
    [
        ("s3://media?region=eu", "s3://media/", "docs/", True),
        ("s3://media?endpoint_url=https://a.example", "s3://media?endpoint_url=https://b.example", "docs/", False),
        ("s3://media", "s3://others", "docs/", False),
        ("/srv/files", "file:///srv/files/", "docs/old/", True),
        ("/srv/files", "/srv/files/docs", '""', True),
        ("/srv/files", "/srv/files2", "docs/", False),
        ("s3://[", "s3://[", "docs/", False),
    ],
)
def test_two_variables_that_lead_to_one_place_are_one_place(
    tmp_path: Path, one: str, other: str, prefix: str, same: bool
) -> None:
    """E04, E05: each of the two systems would take the other's files for orphans."""
    letters = OTHER.replace("PAPERS_FILES_URL", "LETTERS_FILES_URL").replace("prefix: docs/", f"prefix: {prefix}")
    root = write(tmp_path, {FILE: PAPERS, "assets/letters/defs.yaml": letters})
    environment = {"PAPERS_FILES_URL": one, "LETTERS_FILES_URL": other}
    if not same:
        assert len(load_systems(root, environment)) == 2
        return
    with pytest.raises(DeclarationError, match="one of them is exclusive"):
        load_systems(root, environment)


def test_scopes_that_both_only_report_may_overlap(tmp_path: Path) -> None:
    both = {FILE: PAPERS, "assets/letters/defs.yaml": OTHER}
    both = {name: text.replace(", exclusive: true", "") for name, text in both.items()}
    assert len(load_systems(write(tmp_path, both))) == 2


@pytest.mark.parametrize("name", ["assets/papers/defs.yml", "assets/papers/component.yaml", "assets/a/b/defs.yaml"])
def test_a_declaration_that_would_not_be_read_is_refused(tmp_path: Path, name: str) -> None:
    found = problems(write(tmp_path, {name: PAPERS}))
    assert found == [f"{name} is not read. Declarations are called assets/<name>/defs.yaml."]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "declares nothing" in problems(write(tmp_path, {FILE: "# nothing\n"}))[0]


def test_a_loaded_system_knows_the_line_of_each_of_its_values(tmp_path: Path) -> None:
    loaded = load_systems(write(tmp_path, {FILE: PAPERS}))["papers"]
    assert loaded.where(("references", 1)) == f"{FILE}:18"
    assert loaded.where(("checks", "untitled", "where")) == f"{FILE}:24"
    assert loaded.where(("guards", "max_orphan_percent")) == f"{FILE}:2"  # not written down: where it would be
    assert loaded.folder == tmp_path / "assets/papers"


def test_strings_stay_what_they_are(tmp_path: Path) -> None:
    text = PAPERS.replace("prefix: docs/", "prefix: '30/'").replace("Papers of a club.", "'{{ env.HOME }}'")
    text = text.replace("title IS NULL", "title = '{{ x }}' OR title = '1e5'")
    system = load_systems(write(tmp_path, {FILE: text}))["papers"].system
    assert system.stores["files"].scopes[0].prefix == "30/"
    assert system.description == "{{ env.HOME }}"
    assert system.checks["untitled"].where == "title = '{{ x }}' OR title = '1e5'"


def test_guards_that_yaml_leaves_out_still_hold(tmp_path: Path) -> None:
    guards = load_systems(write(tmp_path, {FILE: PAPERS}))["papers"].system.guards  # G04
    assert (guards.max_orphan_percent, guards.max_missing_percent) == (30, 30)


# Triggers

TRIGGER = "sensors/papers/defs.yaml"
ROWS = """\
type: maintenance_defs.components.RowSensor
attributes:
  system: papers
  run: reconciliation
  watch: {table: docs, cursor: [changed_at, id]}
"""
WRONG_TRIGGERS = {
    "cron": (SCHEDULE, "0 3 * * *", "61 3 * * *", 2, ["'61 3 * * *' is not a cron expression", "'0 3 * * *'"]),
    "seconds": (SCHEDULE, "0 3 * * *", "0 0 3 * * *", 2, ["'0 0 3 * * *' is not a cron expression"]),
    "never": (SCHEDULE, "0 3 * * *", "0 3 30 2 *", 2, ["'0 3 30 2 *' names a day that never comes"]),
    "zone": (SCHEDULE, "cron_env: PAPERS_CRON", "timezone: Europe/Cracow2", 2, ["'Europe/Cracow2' is not a time zone"]),
    "zone path": (SCHEDULE, "cron_env: PAPERS_CRON", "timezone: ../x", 2, ["'../x' is not a time zone"]),
    "system": (SCHEDULE, "system: papers", "system: paper", 2, ["'paper' is not declared", "Did you mean 'papers'?"]),
    "run": (SCHEDULE, "run: reconciliation", "run: deletion", 2, ["'deletion' is not known", "Known: reconciliation"]),
    "field": (SCHEDULE, "cron_env", "cronenv", 2, ["unknown field 'cronenv'", "Did you mean 'cron_env'?"]),
    "cursor": (ROWS, "[changed_at, id]", "[changed_at]", 5, ["watch.cursor: entry 2 is missing"]),
    "every": (ROWS, "watch:", "every: 0 s\n  watch:", 5, ["'0 s' is not an age"]),
    "type": (ROWS, "RowSensor", "MaintainedSystem", 1, ["belongs in assets/"]),
    "twice": (ROWS, "type:", ROWS + "---\ntype:", 2, ["declared twice", f"{TRIGGER}:2, {TRIGGER}:8"]),
}


@pytest.mark.parametrize(("good", "old", "new", "line", "said"), WRONG_TRIGGERS.values(), ids=list(WRONG_TRIGGERS))
def test_wrong_triggers_are_refused_with_file_line_value_and_hint(
    tmp_path: Path, good: str, old: str, new: str, line: int, said: list[str]
) -> None:
    found = trigger_problems(write(tmp_path, {FILE: PAPERS, TRIGGER: good.replace(old, new, 1)}))
    assert all(part in found[0] for part in [f"{TRIGGER}:{line}", *said]), found


@pytest.mark.parametrize("value", ["61 3 * * *", "daily", "0 3 * *", "of"])
def test_a_wrong_cron_variable_is_refused_by_name_and_value(tmp_path: Path, value: str) -> None:  # A2-10
    found = trigger_problems(write(tmp_path, {FILE: PAPERS, TRIGGER: SCHEDULE}), {"PAPERS_CRON": value})
    assert f"PAPERS_CRON: '{value}' is not a cron expression" in found[0]
    assert f"({TRIGGER}:2)" in found[0]


@pytest.mark.parametrize(
    ("value", "cron"),
    [
        (None, "0 3 * * *"),
        ("", "0 3 * * *"),
        ("  ", "0 3 * * *"),
        ("off", None),
        ("OFF", None),
        ("5 4 * * 1", "5 4 * * 1"),
    ],
)
def test_a_cron_variable_overrides_defaults_or_turns_off(tmp_path: Path, value: str | None, cron: str | None) -> None:
    environment = {} if value is None else {"PAPERS_CRON": value}
    loaded = load_triggers(write(tmp_path, {FILE: PAPERS, TRIGGER: SCHEDULE}), environment=environment)
    assert [t.trigger.effective_cron(environment, datetime.now(UTC)) for t in loaded] == [cron]  # type: ignore[attr-defined]


def test_the_deployments_own_declarations_load() -> None:
    systems = load_systems(ROOT)
    assert list(systems) == ["colouring", "executions", "radio", "renders", "reports"]
    scheduled = {t.trigger.system for t in load_triggers(ROOT, systems, {}) if type(t.trigger).__name__ == "Schedule"}
    assert scheduled == set(systems)


def test_a_root_without_assets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"MAINTENANCE_ROOT is .* it has no folder assets/"):
        deployment_root({"MAINTENANCE_ROOT": str(tmp_path)})
    assert deployment_root({}) == ROOT


def test_declarations_load_without_dagster() -> None:
    code = (
        "import sys; from maintenance_defs.declarations import *; load_triggers(deployment_root());"
        "print([m for m in sys.modules if m.split('.')[0] in ('dagster', 'duckdb', 'pyarrow', 'sqlalchemy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
