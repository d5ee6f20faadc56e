"""Reads the declarations of a deployment: assets/<system>/defs.yaml and sensors/<trigger>/defs.yaml.

Everything that is wrong with any of the files is told at once, with file and line. Dagster is not
imported: the command starts fast, and both see the same objects.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ValidationError

from maintenance_defs.core import yaml_lines
from maintenance_defs.core.declaration import OWN_JOBS, Scope, System
from maintenance_defs.core.errors import DeclarationError
from maintenance_defs.core.presets import chosen_preset
from maintenance_defs.core.problems import did_you_mean, problems, shown
from maintenance_defs.core.retention_rules import is_enabled, parse_days
from maintenance_defs.core.triggers import (
    ARCHIVE_RUNS,
    ApprovedPlans,
    Backlog,
    BurnIn,
    ColdMonths,
    HttpRequest,
    RowSensor,
    Schedule,
    Trigger,
)
from maintenance_defs.core.yaml_lines import Document, YamlProblem

ASSETS, SENSORS = "assets", "sensors"
PREFIX = "maintenance_defs.components."
SYSTEMS: Mapping[str, type[System]] = {PREFIX + "MaintainedSystem": System}
AnyTrigger = Trigger | ApprovedPlans | ColdMonths
TRIGGERS: Mapping[str, type[AnyTrigger]] = {
    PREFIX + "Schedule": Schedule,
    PREFIX + "RowSensor": RowSensor,
    PREFIX + "HttpRequest": HttpRequest,
    PREFIX + "Backlog": Backlog,
    PREFIX + "BurnIn": BurnIn,
    PREFIX + "ApprovedPlans": ApprovedPlans,
    PREFIX + "ColdMonths": ColdMonths,
}
Model = TypeVar("Model", bound=BaseModel)
FILE = "defs.yaml"
# Names that Dagster, or a hasty hand, gives to the same file; left unread, a system would be missing in silence.
MISNAMED = ("defs.yml", "component.yaml", "component.yml")


@dataclass(frozen=True)
class Declaration:
    """Where something was declared. Paths are inside `attributes`: ("stores", "audio", "limit")."""

    file: Path
    root: Path = field(repr=False)
    document: Document = field(repr=False)

    @property
    def folder(self) -> Path:
        return self.file.parent

    def line_of(self, path: yaml_lines.Path = ()) -> int:
        """The line of a value, or of what encloses it where it is not written down."""
        return self.document.line_of(("attributes", *path))

    def where(self, path: yaml_lines.Path = ()) -> str:
        """`assets/reports/defs.yaml:31`, for messages."""
        return f"{_below(self.root, self.file)}:{self.line_of(path)}"


@dataclass(frozen=True)
class LoadedSystem(Declaration):
    system: System


@dataclass(frozen=True)
class LoadedTrigger(Declaration):
    trigger: AnyTrigger


def deployment_root(environment: Mapping[str, str] = os.environ) -> Path:
    """MAINTENANCE_ROOT, or the folder beside the package: so that a wheel serves any deployment."""
    given = environment.get("MAINTENANCE_ROOT")
    root = Path(given).absolute() if given else Path(__file__).absolute().parent.parent
    if not (root / ASSETS).is_dir():
        said = f"MAINTENANCE_ROOT is {given!r}" if given else f"MAINTENANCE_ROOT is not set, and this is {root}"
        raise DeclarationError(
            [f"{said}; it has no folder {ASSETS}/. Set it to the folder that holds {ASSETS}/ and {SENSORS}/."]
        )
    return root


def load_systems(root: Path, environment: Mapping[str, str] = os.environ) -> dict[str, LoadedSystem]:
    """Every system by name, in order of name. Raises DeclarationError with all problems of all files.

    environment: where variables that choose presets, enable policies or set their ages are looked up (G09).
    """
    found: list[str] = []
    loaded: dict[str, LoadedSystem] = {}
    for file, document, value in _declared(root, ASSETS, SYSTEMS, found):
        here = LoadedSystem(file, root, document, value)
        found += _without_sql(here)
        found += _wrong_variables(here, environment)
        first = loaded.setdefault(value.name, here)
        if first is not here:
            found.append(f"system {value.name!r} is declared twice: {first.where(('name',))}, {here.where(('name',))}.")
    found += _overlaps(list(loaded.values()), environment)
    if found:
        raise DeclarationError(found)
    return dict(sorted(loaded.items()))


def schedules_of(root: Path, system: str) -> list[Schedule]:
    """The schedules of one system, as `load_triggers` finds them."""
    found = [loaded.trigger for loaded in load_triggers(root)]
    return [trigger for trigger in found if isinstance(trigger, Schedule) and trigger.system == system]


def load_triggers(
    root: Path, systems: Mapping[str, LoadedSystem] | None = None, environment: Mapping[str, str] = os.environ
) -> list[LoadedTrigger]:
    """Every trigger, in order of file. Raises DeclarationError with all problems of all files.

    systems: those loaded already. environment: where `cron_env` is looked up.
    """
    systems = load_systems(root, environment) if systems is None else systems
    found: list[str] = []
    loaded: list[LoadedTrigger] = []
    for file, document, value in _declared(root, SENSORS, TRIGGERS, found):
        here = LoadedTrigger(file, root, document, value)
        if value.system not in systems:
            found.append(
                f"system {value.system!r} is not declared ({here.where(('system',))})."
                f"{did_you_mean(value.system, systems)} Known: {', '.join(systems) or 'none'}."
            )
        else:
            found += _unknown_policies(here, systems[value.system])
        if isinstance(value, Schedule):
            known = systems.get(value.system)
            try:
                value.effective_cron(environment, datetime.now(UTC), known.system if known else None)
            except ValueError as error:
                where = here.where(("cron_preset" if value.cron_preset else "cron_env",))
                found += [f"{error} ({where})."] if known or not value.cron_preset else []
        for other in loaded:
            if _same_cause(value, other.trigger):
                found.append(
                    f"the same trigger of {value.system!r} is declared twice: {other.where()}, {here.where()}."
                )
        loaded.append(here)
    found += _never_whole(loaded)
    if found:
        raise DeclarationError(found)
    return loaded


def _unknown_policies(here: LoadedTrigger, loaded: LoadedSystem) -> Iterator[str]:
    """Policies that are not there, and job names that are taken."""
    trigger, system = here.trigger, loaded.system
    yield from _unknown_names(here, system)
    if isinstance(trigger, BurnIn) and not system.retention:
        yield f"{system.name} has no policies, so there is nothing to burn in ({here.where()})."
    quarantines = any(policy.act.objects == "quarantine" for policy in system.retention.values())
    if isinstance(trigger, Trigger) and trigger.run == "restore_drill" and not quarantines:
        yield f"no policy of {system.name} quarantines, so there is nothing to drill ({here.where(('run',))})."
    wants_archive = isinstance(trigger, ColdMonths) or (isinstance(trigger, Trigger) and trigger.run in ARCHIVE_RUNS)
    of_values = isinstance(trigger, Trigger) and trigger.run == "archive" and system.archived_columns
    if wants_archive and not system.archives and not of_values:
        yield f"{system.name} has no archives, so there is nothing to start ({here.where()})."
    if isinstance(trigger, Trigger) and trigger.run == "archive_ahead" and not _made_ahead(system):
        yield f"no archive of {system.name} makes months ahead: months_ahead is 0 ({here.where(('run',))})."
    if isinstance(trigger, RowSensor) and trigger.watch.groups is not None:
        for name in trigger.policy:
            if name in system.retention and system.retention[name].group_column is None:
                yield (
                    f"watch.groups: {name} of {system.name} has no groups; it is planned whole "
                    f"({here.where(('watch', 'groups'))})."
                )
    taken = (*system.retention, *OWN_JOBS)
    if isinstance(trigger, Trigger) and trigger.name in taken:
        yield f"name: {trigger.name!r} is taken by another job of {system.name} ({here.where(('name',))})."


def _never_whole(loaded: Sequence[LoadedTrigger]) -> Iterator[str]:
    """Policies of which only what is new is planned: rows that commit late, and what failed, would be forgotten."""
    whole = {
        (here.trigger.system, name)
        for here in loaded
        if isinstance(here.trigger, Schedule)
        for name in here.trigger.policy
    }
    for here in loaded:
        trigger = here.trigger
        if not isinstance(trigger, RowSensor) or trigger.watch.groups is None:
            continue
        for name in trigger.policy:
            if (trigger.system, name) not in whole:
                yield (
                    f"watch.groups: no Schedule plans {name} of {trigger.system} whole, so rows that commit late and "
                    f"what failed would never be looked at again ({here.where(('watch', 'groups'))}). Declare one."
                )


def _with_plans(system: System) -> list[str]:
    return [*system.retention, *system.archives, *system.archived_columns]


def _made_ahead(system: System) -> bool:
    return any(archive.months_ahead and archive.remove != "rows" for archive in system.archives.values())


def _unknown_names(here: LoadedTrigger, system: System) -> Iterator[str]:
    """Policies and archives that a trigger names and that are not there."""
    trigger = here.trigger
    if isinstance(trigger, ColdMonths):
        wanted, known, what, field_ = trigger.archive, [*system.archives], "archive", "archive"
    elif isinstance(trigger, ApprovedPlans):
        wanted, known, what, field_ = trigger.policy, _with_plans(system), "policy", "policy"
    else:
        wanted, known, what, field_ = trigger.policy, [*system.retention], "policy", "policy"
    for name in wanted:
        if name not in known:
            hint = f"{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}."
            yield f"{system.name} has no {what} {name!r} ({here.where((field_,))}).{hint}"


def _declared(
    root: Path, folder: str, known: Mapping[str, type[Model]], found: list[str]
) -> Iterator[tuple[Path, Document, Model]]:
    """What the documents below root/folder declare; what is wrong with them is added to `found`."""
    for file in _files(root, folder, found):
        try:
            documents = yaml_lines.read_documents(file.read_text(encoding="utf-8"))
        except YamlProblem as error:
            found.append(f"{error} ({_below(root, file)}:{error.line}).")
            continue
        except UnicodeDecodeError as error:
            found.append(f"{_below(root, file)} is not UTF-8 (byte {error.start}).")
            continue
        if not documents:
            found.append(f"{_below(root, file)} declares nothing. Remove the file, or write what it is for.")
        for document in documents:
            said = list(_wrong_envelope(document, folder, known))
            if not said:
                model = known[document.value["type"]]
                try:
                    yield file, document, model.model_validate(document.value["attributes"])
                    continue
                except ValidationError as error:
                    said = [(("attributes", *path), what, instead) for path, what, instead in problems(error, model)]
            found += [
                f"{what} ({_below(root, file)}:{document.line_of(path)}).{' ' if instead else ''}{instead}"
                for path, what, instead in said
            ]


def _files(root: Path, folder: str, found: list[str]) -> Iterator[Path]:
    """root/folder/<name>/defs.yaml; a file that looks like one but is not read is a problem."""
    for file in sorted((root / folder).rglob("*.y*ml")):
        if file.name == FILE and file.parent.parent == root / folder:
            yield file
        elif file.name in (FILE, *MISNAMED):
            found.append(f"{_below(root, file)} is not read. Declarations are called {folder}/<name>/{FILE}.")


def _wrong_envelope(
    document: Document, folder: str, known: Mapping[str, type[BaseModel]]
) -> Iterator[tuple[yaml_lines.Path, str, str]]:
    """What is wrong around `attributes`: (path, what, what to write instead)."""
    value = document.value
    if not isinstance(value, dict):
        yield (), "a document has the fields type and attributes", ""
        return
    fields = ("type", "attributes")
    for name in value.keys() - set(fields):
        yield (name,), f"unknown field {name!r}", f"Known: {', '.join(fields)}.{did_you_mean(name, fields)}"
    type_ = value.get("type")
    if not isinstance(type_, str):
        yield ("type",), "'type' is missing", f"Write one of {', '.join(known)}."
    elif type_ not in known:
        hint = f"Known: {', '.join(known)}.{did_you_mean(type_, known)}"
        for elsewhere, types in ((ASSETS, SYSTEMS), (SENSORS, TRIGGERS)):
            if type_ in types:
                hint = f"It belongs in {elsewhere}/."
        yield ("type",), f"type {shown(type_)} is not known in {folder}/", hint
    if not isinstance(value.get("attributes"), dict):
        yield ("attributes",), "'attributes' is missing or has no fields", ""


def _without_sql(loaded: LoadedSystem) -> Iterator[str]:
    for name, query in loaded.system.queries.items():
        if not (loaded.folder / query.sql).is_file():
            known = [file.relative_to(loaded.folder).as_posix() for file in sorted(loaded.folder.rglob("*.sql"))]
            yield (
                f"queries.{name}.sql: there is no file {query.sql!r} in the system's folder "
                f"({loaded.where(('queries', name, 'sql'))}).{did_you_mean(query.sql, known)}"
            )


def _wrong_variables(loaded: LoadedSystem, environment: Mapping[str, str]) -> Iterator[str]:
    """Variables of policies and presets that cannot be understood: nothing acts on a guess (A2-10)."""

    def said(understand: Callable[[], object], *path: str | int) -> Iterator[str]:
        try:
            understand()
        except ValueError as error:
            yield f"{error} ({loaded.where(path)})."

    system = loaded.system
    yield from said(partial(chosen_preset, system, environment), "preset_env")
    for name, policy in system.retention.items():
        yield from said(partial(is_enabled, policy, environment), "retention", name, "enabled_env")
        for n, rule in enumerate(policy.keep):
            if rule.days_env is not None and (value := environment.get(rule.days_env, "").strip()):
                yield from said(partial(parse_days, rule.days_env, value), "retention", name, "keep", n, "days_env")


def _overlaps(systems: list[LoadedSystem], environment: Mapping[str, str]) -> Iterator[str]:
    """Scopes of one place that hold the same keys, while one of them says that its owner is alone (E04).

    One place is one variable, or two that lead to one bucket or into one folder, as far as they are set here.
    """
    claims: dict[str, list[tuple[str, Scope, str]]] = {}
    for loaded in systems:
        for name, store in loaded.system.stores.items():
            place, folder = _place(environment.get(store.url_env, ""), store.url_env)
            for n, scope in enumerate(store.scopes):
                who = f"{scope.prefix!r} of {loaded.system.name} ({loaded.where(('stores', name, 'scopes', n))})"
                below = folder + scope.prefix
                for other_below, other, whose in claims.get(place, ()):
                    if (scope.exclusive or other.exclusive) and _overlap(below, other_below):
                        yield (
                            f"scopes {whose} and {who} overlap in {store.url_env}, and one of them is exclusive: "
                            f"it would take the other's objects for orphans. Give each its own prefix, or leave out "
                            f"exclusive in both."
                        )
                claims.setdefault(place, []).append((below, scope, who))


def _place(location: str, variable: str) -> tuple[str, str]:
    """(what two locations of one store have in common, the folder there); the variable where it is not set."""
    try:
        url = urlsplit(location)
    except ValueError:  # whoever opens it says what is wrong
        return variable, ""
    if not location.strip():
        return variable, ""
    if "://" not in location or url.scheme == "file":
        folder = Path(unquote(url.path) if url.scheme == "file" else location).resolve()
        return "folders", f"{folder.as_posix().rstrip('/')}/"
    options = dict(parse_qsl(url.query))
    endpoint = (options.get("endpoint_url") or options.get("endpoint") or "").rstrip("/")
    return f"{url.scheme}://{url.netloc}/{url.path.strip('/')} {endpoint}".casefold(), ""


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _same_cause(one: AnyTrigger, other: AnyTrigger) -> bool:
    """Whether Dagster could not tell them apart, or one job's name would mean two things."""
    if (one.system, one.starts) != (other.system, other.starts):
        return False
    if isinstance(one, Trigger) and isinstance(other, Trigger) and one.policy != other.policy:
        return True
    if type(one) is not type(other):
        return False
    return not isinstance(one, RowSensor) or one.watch == getattr(other, "watch", None)


def _below(root: Path, file: Path) -> PurePosixPath:
    return PurePosixPath(file.relative_to(root))
