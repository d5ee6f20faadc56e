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
_BOUNDS = {  # pydantic's word -> where the bound stands, what is wrong, what to write
    "greater_than": ("gt", "too small", "more than"),
    "greater_than_equal": ("ge", "too small", "at least"),
    "less_than": ("lt", "too large", "less than"),
    "less_than_equal": ("le", "too large", "at most"),
}


class Several(ValueError):
    """What a validator found, where it looked on after the first: each 'path: what. What to write instead'."""

    def __init__(self, found: Iterable[str]) -> None:
        self.found = tuple(found)
        super().__init__("; ".join(self.found))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean X?` with its leading blank, or nothing."""
    close = _nearest(word, list(known))
    return f" Did you mean {close!r}?" if close else ""


def known_names(word: str, known: Iterable[str]) -> str:
    """What may stand instead of an unknown name: `Did you mean 'x'? Known: x, y.`"""
    names = list(known)
    return f"{did_you_mean(word, names)} Known: {', '.join(names) or 'none'}.".lstrip()


def _nearest(word: str, known: list[str]) -> str | None:
    close = difflib.get_close_matches(word, known, n=1) or difflib.get_close_matches(word.lower(), known, n=1)
    return close[0] if close else None


def problems(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[Path, str, str]]:
    """(path, what is wrong, what to write instead) for each; the second is no sentence yet, the third may be ''.

    A value is repeated only where it can be no secret: never that of a field that names a variable.
    """
    details = [(_declared_path(detail["loc"], model), detail) for detail in error.errors(include_url=False)]
    for path, detail in details:
        if detail["type"] == "too_short" and any(other[:-1][: len(path)] == path for other, _ in details):
            continue  # its entries are wrong, not absent
        if detail["type"] == "missing" and _misspelt(path, details):
            continue  # said with the field that was meant
        if len(_sides(_annotation_at(model, path))) > 1 and not _says_most(path, detail, details):
            continue
        for what, instead in _told(detail, path, model):
            yield _placed(path, what, instead, detail["type"], model)


def _declared_path(location: tuple[int | str, ...], model: type[BaseModel]) -> Path:
    """Without what pydantic adds: `[key]`, and which side of a union it tried."""
    path: Path = ()
    tried = False
    for part in location:
        if part == "[key]":
            continue
        if not tried and len(_sides(_annotation_at(model, path))) > 1:
            tried = True
            continue
        path, tried = (*path, part), False
    return path


def _misspelt(path: Path, details: list[tuple[Path, ErrorDetails]]) -> bool:
    """Whether an unknown field beside it comes so near that it was meant."""
    beside = [at[-1] for at, other in details if other["type"] == "extra_forbidden" and at[:-1] == path[:-1]]
    return any(_nearest(str(word), [str(path[-1])]) for word in beside)


def _says_most(path: Path, detail: ErrorDetails, details: list[tuple[Path, ErrorDetails]]) -> bool:
    """Of a union, each side complains: the one that got furthest is heard, then whoever knows what to write."""
    if any(other[: len(path)] == path and len(other) > len(path) for other, _ in details):
        return False
    rank = ["value_error", "literal_error"]
    beside = [other for at, other in details if at == path]
    return detail is min(beside, key=lambda one: rank.index(one["type"]) if one["type"] in rank else len(rank))


def _placed(path: Path, what: str, instead: str, kind: str, model: type[BaseModel]) -> tuple[Path, str, str]:
    """With the path in front; a validator of the whole names the part that it means: 'references.3: ...'."""
    if kind == "value_error" and (deeper := _PLACE.match(what)):
        path += tuple(int(step) if step.isdigit() else step for step in deeper[1].split("."))
        what = deeper[2]
    elif kind == "value_error" and (own := _FIELD.match(what)) and own[1] in fields_at(model, path):
        path, what = (*path, own[1]), own[2]
    where = f"{dotted(path)}: " if path else ""
    return path, what if kind in ("extra_forbidden", "missing") else where + what, instead


def dotted(path: Path) -> str:
    """`stores.audio.scopes.0`, as it is written in messages."""
    return ".".join(str(part) for part in path)


def shown(value: Any) -> str:
    """The value for a message: short, and without what may be a login."""
    text = repr(value)
    if _LOGIN.search(text):
        return "this value"
    return text if len(text) <= 80 else text[:79] + "…"


def _told(detail: ErrorDetails, path: Path, model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    if detail["type"] != "value_error":
        yield _told_of_field(detail, path, model)
        return
    error = detail.get("ctx", {})["error"]
    for said in error.found if isinstance(error, Several) else [str(error)]:
        what, _, instead = said.partition(". ")
        yield ("a login stands in it", "") if _LOGIN.search(said) else (what, instead and instead.rstrip(".") + ".")


def _told_of_field(detail: ErrorDetails, path: Path, model: type[BaseModel]) -> tuple[str, str]:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    inside = f" of {dotted(path[:-1])}" if path[:-1] else ""
    match kind:
        case "extra_forbidden":
            known = fields_at(model, path[:-1])
            hint = did_you_mean(str(path[-1]), known)
            return f"unknown field {str(path[-1])!r}", f"{hint} Known{inside}: {', '.join(known)}.".lstrip()
        case "missing" if isinstance(path[-1], int):
            return f"{dotted(path[:-1])}: entry {path[-1] + 1} is missing", ""
        case "missing":
            return f"{str(path[-1])!r} is missing{inside.replace(' of ', ' in ')}", ""
        case "literal_error":
            annotation = _annotation_at(model, path)
            known = [str(choice) for choice in _choices(annotation)]
            return f"{shown(value)} is not known", known_names(str(value), [*known, *_written_out(annotation)])
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
        case _ if kind in _SHAPES and value is None:
            return "there is no value", f"Write {_SHAPES[kind]}; what belongs to it is indented further than its name."
        case _ if kind in _SHAPES:
            return f"{shown(value)} does not fit", f"Write {_SHAPES[kind]}."
        case _ if kind in _BOUNDS:
            name, too, write = _BOUNDS[kind]
            return f"{shown(value)} is {too}", f"Write {write} {context[name]:g}."
        case _:
            said = detail["msg"][0].lower() + detail["msg"][1:]
            return f"{said}, not {shown(value)}", ""


def fields_at(model: type[BaseModel], path: Path) -> list[str]:
    """The fields that may stand at a path, as YAML spells them."""
    found = _model_at(model, path)
    return [] if found is None else [field.alias or name for name, field in found.model_fields.items()]


def _choices(annotation: Any) -> list[Any]:
    return [choice for part in _alternatives(annotation) if get_origin(part) is Literal for choice in get_args(part)]


def _written_out(annotation: Any) -> list[str]:
    """`{move_to: …}` where fields may stand instead of a word."""
    models = [part for part in _alternatives(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
    needed = [[f.alias or name for name, f in part.model_fields.items() if f.is_required()] for part in models]
    return ["{" + ", ".join(f"{name}: …" for name in names) + "}" for names in needed]


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


def _sides(annotation: Any) -> list[Any]:
    """The sides of a union that pydantic tries one by one and names."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return []
    return [part for part in get_args(annotation) if part is not types.NoneType]


def _alternatives(annotation: Any) -> list[Any]:
    """Without Annotated, and each side of a union."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [found for part in get_args(annotation) for found in _alternatives(part)]
    return [annotation]
