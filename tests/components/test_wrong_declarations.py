"""Plausible mistakes in archives, policies, stores and references: where, what is wrong, what may stand there (I15)."""

from __future__ import annotations

from pathlib import Path

import pytest

from maintenance_defs.core.errors import DeclarationError
from maintenance_defs.declarations import load_systems
from tests.components.conftest import write

FILE = "assets/shop/defs.yaml"
SHOP = """\
type: maintenance_defs.components.MaintainedSystem
attributes:
  name: shop
  database: {url_env: SHOP_DATABASE_URL}
  stores:
    media:
      url_env: SHOP_MEDIA_URL
      scopes:
        - {prefix: images/, class: product, exclusive: true}
        - {prefix: temp/, class: temporary, exclusive: true}
    cold:
      url_env: SHOP_COLD_URL
      scopes:
        - {prefix: logs/, class: archive, exclusive: true}
        - {prefix: visits/, class: archive, exclusive: true}
        - {prefix: results/, class: archive, exclusive: true}
  references:
    - {table: public.picture, id: id, store: media, object: {column: storage_key}}
  checks:
    odd:
      describe: Odd results.
      table: public.jobs
      id: id
      where: result IS NULL
  retention:
    drafts:
      describe: a draft nobody published
      select: {rows: public.picture, id: id, where: state = 'draft'}
      keep:
        - {younger_than: 30 d, by: updated_at}
      act: {objects: quarantine, rows: delete}
      limits: {max_objects: 100}
    temps:
      describe: an old temporary file
      select: {objects: media, prefix: temp/}
      keep: [{younger_than: 2 d}]
      act: {objects: delete}
  archives:
    logs:
      describe: Lines of jobs.
      table: public.logs
      time: created_at
      lookup: job_id
      organisation: {table: public.jobs, by: {job_id: id}, column: org_id}
      store: cold
      path: "logs/{org}/{month}/"
      layout: per_org
      hot: 30 d
      keep: 365 d
      keep_by: {table: public.orgs, id: id, days: log_days}
      undo_window: 7 d
    visits:
      describe: Who read what.
      table: public.visits
      time: seen_at
      organisation: {column: org_id}
      store: cold
      path: "visits/{org}/{month}/"
      layout: per_org
      class: phi
      encryption: store
      hot: 90 d
      keep: forever
  archived_columns:
    results:
      describe: Whole results of jobs.
      table: public.jobs
      id: id
      column: result
      where: state = 'done'
      time: done_at
      store: cold
      path: "results/{id}.json.gz"
      hot: 1 d
      keep: forever
      slim: jsonb_build_object('ok', result -> 'ok')
      holds: [odd]
  growth:
    warn_percent: 10
    tables: [public.basket]
    projections:
      pictures: {records: 2K-5K per month, each: 1-3 MB, store: media, prefix: images/}
      clips: {records: 24 per hour, each: 60 s, per_minute: 5 MB, kept_for: 7 d}
      lines: {part_of: clips, grows: 1 GB per month, table: public.logs, time: created_at}
    savings:
      small: {describe: Smaller pictures, saves: 50-100 MB per month}
"""
UNITS = "one of s, min, h, d, w"
ON_DISK = 'path: "logs/{org}/{month}/"'
# what is replaced, by what: the line that is told, and what the message must say
ARCHIVES = {
    "typo": ("hot: 30 d", "hott: 30 d", 48, ["unknown field 'hott'", "Did you mean 'hot'? Known of archives.logs: d"]),
    "absent": ("      time: created_at\n", "", 39, ["'time' is missing in archives.logs"]),
    "unknown unit": ("hot: 30 d", "hot: 1 month", 48, ["archives.logs.hot: '1 month' is not an age", UNITS]),
    "unit in words": ("hot: 30 d", "hot: 30 days", 48, ["'30 days' is not an age", UNITS]),
    "no unit": ("keep: 365 d", "keep: 365", 49, ["archives.logs.keep: 365 is not an age", UNITS, "or 'forever'"]),
    "undo without unit": ("undo_window: 7 d", "undo_window: 7", 51, ["undo_window: 7 is not an age", "'0 d' for none"]),
    "negative undo": ("undo_window: 7 d", "undo_window: -7 d", 51, ["undo_window: '-7 d' is not an age"]),
    "negative": ("hot: 30 d", "hot: -30 d", 48, ["'-30 d' is not an age"]),
    "negative months": ("undo_window: 7 d", "months_ahead: -1", 51, ["months_ahead: -1 is too small", "at least 0"]),
    "never": ("keep: forever", "keep: never", 63, ["archives.visits.keep: 'never' is not an age", "or 'forever'"]),
    "hot longer than kept": ("hot: 30 d", "hot: 400 d", 49, ["365 d is not longer than the hot 400 d"]),
    "below six years": ("90 d\n      keep: forever", "90 d\n      keep: 1095 d", 63, ["the floor of 2192 d", "six"]),
    "phi in the clear": ("      encryption: store\n", "", 52, ["visits.encryption: class phi needs encryption"]),
    "encryption": ("encryption: store", "encryption: aes", 61, ["'aes' is not known", "Known: store, {key_env: …}"]),
    "on as a field": ("by: {job_id", "on: {job_id", 44, ["reads the field name 'on' as a truth value", "in quotes"]),
    "field in a field": ("{column: org_id}", "{colum: org_id}", 56, ["'colum'", "organisation: column, t"]),
    "twice": ("lookup: job_id", "lookup: job_id\n      lookup: id", 44, ["'lookup' stands twice, in line 43 too"]),
    "tab": ("      lookup", "\t    lookup", 43, ["a tab", "spaces"]),
    "indented less": ("      lookup", "     lookup", 43, ["indented unlike the lines", "begin in line 39", "spaces"]),
    "indented more": ("      lookup", "       lookup", 43, ["indented too far"]),
    "a list": ("    logs:\n", "    - logs:\n", 52, ["entries that begin with '- ' and fields", "from line 39 on"]),
    "list for fields": ("{table: public.orgs, id: id, days: log_days}", "[orgs]", 50, ["keep_by: ['orgs'] does not"]),
    "nothing": ("  archives:\n", "  archives:\n    old:\n", 39, ["old: there is no value", "indented further"]),
    "store": ("store: cold\n", "store: cld\n", 45, ["archives.logs.store: 'cld' is not declared", "mean 'cold'?"]),
    "scope": (ON_DISK, ON_DISK.replace("logs", "log"), 46, ["no scope of class archive", "{prefix: log/,", ": logs/"]),
    "layout": ("layout: per_org", "layout: org", 47, ["'org' is not known", "Known: per_org, by_class, shared"]),
    "no place": (ON_DISK, 'path: "logs/{month}/"', 46, ["logs.path: layout per_org needs {org} in it"]),
    "unknown place": (ON_DISK, 'path: "logs/{orgs}/{month}/"', 46, ["{orgs} is not known", "Did you mean 'org'?"]),
    "brace": (ON_DISK, 'path: "logs/{org}/{month/"', 46, ["logs.path: template", "a brace that encloses no"]),
    "no quotes": (ON_DISK, "path: {org}/{month}/", 46, ["put the whole value in quotes"]),
    "no folder": (ON_DISK, 'path: "logs/{org}/{month}"', 46, ["logs.path: 'logs/{org}/{month}' must end in '/'"]),
    "column absent": ("      column: result\n", "", 65, ["'column' is missing in archived_columns.results"]),
    "column's name": ("column: result\n", "columns: result\n", 69, ["unknown field 'columns'", "mean 'column'?"]),
    "no summary": ("slim:", "slimm:", 76, ["unknown field 'slimm'", "Did you mean 'slim'?"]),
    "other files": ("{id}.json.gz", "{id}.json", 73, ["results.path: 'results/{id}.json' must end in '.json.gz'"]),
    "check": ("holds: [odd]", "holds: [od]", 77, ["no check 'od' is declared", "Did you mean 'odd'?"]),
    "of the other kind": ("holds: [odd]", "months_ahead: 3", 77, ["unknown field 'months_ahead'"]),
    "one name for two": ("    logs:\n", "    drafts:\n", 39, ["archives.drafts: retention.drafts has the same name"]),
    "group": ("  archives:\n", "  archive:\n", 38, ["unknown field 'archive'", "Did you mean 'archives'?"]),
}  # fmt: skip
OTHERS = {
    "rule": ("younger_than: 30 d", "younger_then: 30 d", 30, ["'younger_then'", "Did you mean 'younger_than'?"]),
    "age": ("younger_than: 30 d", "younger_than: 30", 30, ["drafts.keep.0.younger_than: 30 is not an age", UNITS]),
    "preset": ("younger_than: 30 d", "younger_than: young", 30, ["drafts.keep.0.younger_than: 'young' is neither"]),
    "by": ("30 d, by: updated_at", "30 d", 30, ["drafts.keep.0: say by which column"]),
    "platform's job": ("    drafts:\n", "    growth:\n", 26, ["retention.growth: a job of the platform has this name"]),
    "no reason": ("      keep: [{younger_than: 2 d}]\n", "", 33, ["without a keep rule lets everything go"]),
    "fields for list": ("[{younger_than: 2 d}]", "{younger_than: 2 d}", 36, ["does not fit", "a list"]),
    "store": ("objects: media", "objects: medai", 35, ["store 'medai' is not declared", "Did you mean 'media'?"]),
    "prefix": ("prefix: temp/}", "prefix: tmp/}", 35, ["no scope of store 'media' holds 'tmp/'", "mean 'temp/'?"]),
    "act": ("{objects: delete}", "{objects: remove}", 37, ["'remove' is not known", "delete, {move_to: …}"]),
    "act in a word": ("act: {objects: delete}", "act: delete", 37, ["act: 'delete' does not fit", "{name: value}"]),
    "moved where": ("{objects: delete}", "{objects: {move_to: cld}}", 37, ["store 'cld' is not", "mean 'cold'?"]),
    "moved how": ("{objects: delete}", "{objects: {move: cold}}", 37, ["unknown field 'move'", "mean 'move_to'?"]),
    "limit": ("max_objects: 100", "max_objects: -100", 32, ["max_objects: -100 is too small", "at least 0"]),
    "no number": ("max_objects: 100", "max_objects: many", 32, ["'many' does not fit", "a whole number"]),
    "no size": ("max_objects: 100", "max_bytes: 100", 32, ["limits.max_bytes: 100 is not a size", "'10 GB'"]),
    "every row": ("where: state = 'draft'", "where: 'true'", 28, ["means every row"]),
    "colon": ("where: state = 'draft'", "where: a: b", 28, ["lacks a comma or its closing bracket", "wants quotes"]),
    "store field": ("url_env: SHOP_COLD_URL", "url_evn: X", 12, ["unknown field 'url_evn'", "Did you mean 'url_env'?"]),
    "URL": ("SHOP_COLD_URL", "s3://cold", 12, ["not the name of an environment variable", "SHOP_DATABASE_URL"]),
    "stores a list": ("    media:\n", "    - media:\n", 11, ["entries that begin with '- '", "from line 6 on"]),
    "scope a word": ("{prefix: temp/, class: temporary, exclusive: true}", "temp/", 10, ["'temp/' does not fit"]),
    "yes in Polish": ("images/, class: product, exclusive: true", "images/, exclusive: tak", 9, ["'tak' does not fit"]),
    "object a word": ("{column: storage_key}", "storage_key", 18, ["object: 'storage_key' does not fit"]),
    "object's form": ("{column: storage_key}", "{colunm: storage_key}", 18, ["Did you mean 'column'?"]),
    "template": ("{column: storage_key}", "{template: a/{id}.jpg}", 18, ["lacks a comma", "wants quotes"]),
    "no store": ("id: id, store: media, object", "id: id, object", 18, ["'store' is missing in references.0"]),
    "reference's store": ("id: id, store: media", "id: id, store: medias", 18, ["'medias' is not", "'media'?"]),
    "window": ("limits: {max_objects: 100}", "window: 2-5", 32, ["'2-5' is not a window", "'02:00-05:00'"]),
}  # fmt: skip
GROWTH = {
    "field": ("warn_percent: 10", "warn_percents: 10", 79, ["'warn_percents'", "Did you mean 'warn_percent'?"]),
    "turned round": ("warn_percent: 10", "warn_percent: 30", 79, ["warn_percent: must not be above fail_percent"]),
    "nothing": ("warn_percent: 10", "warn_percent: 0", 79, ["growth.warn_percent: 0 is too small", "more than 0"]),
    "a number": ("warn_percent: 10", "warn_percent: ten", 79, ["'ten' does not fit", "Write a number"]),
    "short window": ("warn_percent: 10", "window: 1 d", 79, ["growth.window: must be 2 d or more"]),
    "floor": ("warn_percent: 10", "floor: 100", 79, ["growth.floor: 100 is not a size", "'10 GB'"]),
    "bands": ("warn_percent: 10", "risk: {high: 2 GB}", 79, ["growth.risk: critical must be above high"]),
    "no time": ("2K-5K per month", "2K-5K", 82, ["pictures.records: '2K-5K' says no time", "per hour, per day, per w"]),
    "plural": ("2K-5K per month", "2K-5K per months", 82, ["'2K-5K per months' says no time"]),
    "no count": ("2K-5K per month", "many per month", 82, ["'many' is not a number of records", "'50K' or '"]),
    "no size": ("each: 1-3 MB", "each: 1-3", 82, ["pictures.each: '1-3' is neither a size nor a length", "'60 s'"]),
    "downwards": ("saves: 50-100 MB", "saves: 100-50 MB", 86, ["small.saves: '100-50 MB' runs downwards"]),
    "no unit": ("grows: 1 GB per month", "grows: 1 per month", 84, ["'1' is not a size; write a number or two and a"]),
    "alone": ("records: 2K-5K per month, ", "", 82, ["pictures: records and each belong together: {records: 24 pe"]),
    "nothing comes": ("records: 2K-5K per month, each: 1-3 MB, ", "", 82, ["pictures: say what comes: records and"]),
    "no minute": (", per_minute: 5 MB", "", 83, ["clips.each: a length needs per_minute, a size"]),
    "two measures": ("store: media, prefix: images/}", "store: media, table: a}", 82, ["by a store or by a table"]),
    "prefix alone": ("store: media, prefix: images/}", "prefix: images/}", 82, ["prefix belongs to a store"]),
    "column alone": ("prefix: images/}", "column: a}", 82, ["column and time belong to a table"]),
    "store": ("store: media, prefix: images/}", "store: medai}", 82, ["'medai' is not declared", "mean 'media'?"]),
    "scope": ("prefix: images/}", "prefix: image/}", 82, ["'image/' is no scope of store 'media'", "mean 'images/'?"]),
    "part": ("part_of: clips", "part_of: clip", 84, ["lines.part_of: no other projection is 'clip'", "mean 'clips'?"]),
    "itself": ("part_of: clips", "part_of: lines", 84, ["no other projection is 'lines'", "Known: pictures, clips"]),
    "part of a part": ("per_minute: 5 MB", "per_minute: 5 MB, part_of: pictures", 84, ["'clips' is a part itself"]),
}  # fmt: skip
WRONG = {**{f"archive: {name}": case for name, case in ARCHIVES.items()}, **OTHERS,
         **{f"growth: {name}": case for name, case in GROWTH.items()}}  # fmt: skip


def problems(root: Path, text: str) -> list[str]:
    with pytest.raises(DeclarationError) as refused:
        load_systems(write(root, {FILE: text}), {})
    return refused.value.problems


def test_the_declaration_that_is_made_wrong_below_is_right(tmp_path: Path) -> None:
    assert list(load_systems(write(tmp_path, {FILE: SHOP}), {})) == ["shop"]


@pytest.mark.parametrize(("old", "new", "line", "said"), WRONG.values(), ids=list(WRONG))
def test_a_mistake_is_told_once_with_its_line_and_what_may_stand_there(
    tmp_path: Path, old: str, new: str, line: int, said: list[str]
) -> None:
    assert old in SHOP
    found = problems(tmp_path, SHOP.replace(old, new, 1))
    assert len(found) == 1, found
    assert all(part in found[0] for part in [f"{FILE}:{line})", *said]), found


def test_names_that_do_not_meet_are_all_told_at_once(tmp_path: Path) -> None:
    wrong = SHOP.replace("id: id, store: media", "id: id, store: medias").replace("objects: media", "objects: medai")
    wrong = wrong.replace('store: cold\n      path: "logs', 'store: cld\n      path: "logs').replace("[odd]", "[od]")
    assert [text.split("(")[0] for text in problems(tmp_path, wrong)] == [
        "references.0.store: 'medias' is not declared ",
        "retention.temps.select.objects: store 'medai' is not declared ",
        "archives.logs.store: 'cld' is not declared ",
        "archived_columns.results.holds: no check 'od' is declared ",
    ]


REFERENCES = "  references:\n    - {table: public.picture, id: id, store: media, object: {column: storage_key}}\n"


def test_only_a_system_with_archives_does_without_references(tmp_path: Path) -> None:
    begins, archives = SHOP.partition("  checks:\n")[0], SHOP.partition("  archives:\n")[2].partition("  archived_")[0]
    plain = begins.replace(REFERENCES, "")
    assert plain != begins
    assert list(load_systems(write(tmp_path / "a", {FILE: plain + "  archives:\n" + archives}), {})) == ["shop"]
    (said,) = problems(tmp_path / "b", plain)
    assert "references: say how rows name objects; only a system with archives may do without" in said


def test_without_references_nothing_is_an_orphan_and_no_row_names_an_object(tmp_path: Path) -> None:
    orphans = SHOP.replace("{objects: media, prefix: temp/}", "{orphans: media, prefix: images/}")
    found = problems(tmp_path, orphans.replace(REFERENCES, ""))
    assert [text.split(" (")[0] for text in found] == [
        "retention.drafts.act.objects: no reference of public.picture names an object",
        "retention.temps.select.orphans: no reference names store 'media', so nothing in it is an orphan",
    ]
