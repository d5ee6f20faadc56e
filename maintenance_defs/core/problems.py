"""What pydantic found wrong with a declaration, as sentences: which field, which value, what to write instead."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from maintenance_defs.core.yaml_lines import Path

_PLACE = re.compile(r"([a-z_]+(?:\.\w+)+): (.*)", re.DOTALL)
_FIELD = re.compile(r"([a-z_]+): (.*)", re.DOTALL)
_LOGIN = re.compile(r"://[^/\s]*@")
_WRITTEN_AS = {
    r"^[a-z][a-z0-9_]{0,62}$": "small letters, digits and _, beginning with a letter, at most 63 of them",
}
_VARIABLE = r"^[A-Z][A-Z0-9_]*$"
_SHAPES = {
    "tuple_type": "a list, each entry after '- '",
    "list_type": "a list, each entry after '- '",
    "dict_type": "fields with values, as in {name: value}",
    "model_type": "fields with values, as in {name: value}",
    "model_attributes_type": "fields with values, as in {name: value}",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean X?` with its leading blank, or nothing."""
    spellings = list(known)
    close = difflib.get_close_matches(word, spellings, n=1) or difflib.get_close_matches(word.lower(), spellings, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def problems(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[Path, str, str]]:
    """(path, what is wrong, what to write instead) for each; the second is no sentence yet, the third may be ''.

    A value is repeated only where it can be no secret: never that of a field that names a variable.
    """
    details = error.errors(include_url=False)
    for detail in details:
        path = tuple(part for part in detail["loc"] if part != "[key]")
        if detail["type"] == "too_short" and any(other["loc"][:-1][: len(path)] == path for other in details):
            continue  # its entries are wrong, not absent
        what, instead = _told(detail, path, model)
        if detail["type"] == "value_error" and (deeper := _PLACE.match(what)):
            # A validator of the whole names the part that it means: 'references.3: ...'
            path += tuple(int(step) if step.isdigit() else step for step in deeper[1].split("."))
            what = deeper[2]
        elif detail["type"] == "value_error" and (own := _FIELD.match(what)) and own[1] in fields_at(model, path):
            path, what = (*path, own[1]), own[2]
        where = f"{dotted(path)}: " if path else ""
        yield path, what if detail["type"] in ("extra_forbidden", "missing") else where + what, instead


def dotted(path: Path) -> str:
    """`stores.audio.scopes.0`, as it is written in messages."""
    return ".".join(str(part) for part in path)


def shown(value: Any) -> str:
    """The value for a message: short, and without what may be a login."""
    text = repr(value)
    if _LOGIN.search(text):
        return "this value"
    return text if len(text) <= 80 else text[:79] + "…"


def _told(detail: ErrorDetails, path: Path, model: type[BaseModel]) -> tuple[str, str]:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    inside = f" of {dotted(path[:-1])}" if path[:-1] else ""
    match kind:
        case "extra_forbidden":
            known = fields_at(model, path[:-1])
            field = str(path[-1])
            return f"unknown field {field!r}", f"Known{inside}: {', '.join(known)}.{did_you_mean(field, known)}"
        case "missing" if isinstance(path[-1], int):
            return f"{dotted(path[:-1])}: entry {path[-1] + 1} is missing", ""
        case "missing":
            return f"{str(path[-1])!r} is missing{inside.replace(' of ', ' in ')}", ""
        case "value_error":
            return str(context["error"]) if not _LOGIN.search(str(context["error"])) else "a login stands in it", ""
        case "literal_error":
            known = [str(choice) for choice in _choices(model, path)]
            return f"{shown(value)} is not known", f"Known: {', '.join(known)}.{did_you_mean(str(value), known)}"
        case "string_pattern_mismatch" if context["pattern"] == _VARIABLE:
            # People put the URL itself here; it holds a password.
            return "this is not the name of an environment variable", "Write its name, such as SHOP_DATABASE_URL."
        case "string_pattern_mismatch":
            return f"{shown(value)} is not a name", f"Write {_WRITTEN_AS.get(context['pattern'], context['pattern'])}."
        case "string_type" if isinstance(value, dict | list):
            return "this is not a text", ""
        case "string_type" if value is None:
            return "there is no value", "Write one, or leave the field out."
        case "string_type":
            return f"YAML reads this as {shown(value)}, which is not a text", "Write it in quotes."
        case "too_short" | "string_too_short":
            return "this is empty", ""
        case _ if kind in _SHAPES:
            return f"{shown(value)} does not fit", f"Write {_SHAPES[kind]}."
        case _:
            said = detail["msg"][0].lower() + detail["msg"][1:]
            return f"{said}, not {shown(value)}", ""


def fields_at(model: type[BaseModel], path: Path) -> list[str]:
    """The fields that may stand at a path, as YAML spells them."""
    found = _model_at(model, path)
    return [] if found is None else [field.alias or name for name, field in found.model_fields.items()]


def _choices(model: type[BaseModel], path: Path) -> list[Any]:
    annotation = _annotation_at(model, path)
    return [choice for part in _alternatives(annotation) if get_origin(part) is Literal for choice in get_args(part)]


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    for part in _alternatives(_annotation_at(model, path)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _annotation_at(annotation: Any, path: Path) -> Any:
    """The type that a declaration gives to the value at `path`; None where it gives none."""
    for step in path:
        annotation = next(filter(None, (_inner(part, step) for part in _alternatives(annotation))), None)
    return annotation


def _inner(annotation: Any, step: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        return next((f.annotation for name, f in fields.items() if (f.alias or name) == step), None)
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    return arguments[0] if get_origin(annotation) in (tuple, list) else None


def _alternatives(annotation: Any) -> list[Any]:
    """Without Annotated, and each side of a union."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [found for part in get_args(annotation) for found in _alternatives(part)]
    return [annotation]
