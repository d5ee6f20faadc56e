"""YAML text as plain values, each with the line it begins on. What is not plainly meant is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]  # ("attributes", "stores", "audio", "scopes", 0)
_UNWRITABLE = re.compile("[\\0\ud800-\udfff]")  # no database and no file of ours takes them


class YamlProblem(Exception):
    """The text is no YAML, or says one thing twice. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        self.line = line
        super().__init__(message)


@dataclass(frozen=True)
class Document:
    """One YAML document. `lines` holds where every value begins; the document's own under ()."""

    value: Any
    lines: dict[Path, int] = field(repr=False)

    def line_of(self, path: Path) -> int:
        """The line of the value at `path`, or of what encloses it where there is none."""
        return next(self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines)


def read_documents(text: str) -> list[Document]:
    """Every document of a file. Raises YamlProblem."""
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        return [_document(node) for node in nodes]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlProblem(_in_words(error), mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise YamlProblem(f"the character #x{error.character:04x} may not stand in YAML", line) from None


_WORDS = (  # what the parser says holds the first: what that means to who wrote the file
    ("\\t", "a tab begins a value or indents a line; YAML wants spaces"),
    (
        "block collection",
        "entries that begin with '- ' and fields without it stand in one place, from line {begun} on; write all of "
        "them as the one or the other",
    ),
    (
        "but found '<block mapping start>'",
        "this is indented unlike the lines it belongs to, which begin in line {begun}; give them the same number of "
        "spaces",
    ),
    ("expected <block end>", "something stands after the end of a value; put the whole value in quotes"),
    (
        "mapping values are not allowed",
        "there is a ': ' where none may be: the line is indented too far, or a text with ': ' in it wants quotes",
    ),
    ("could not find expected ':'", "a field has no ': ' behind its name"),
    (
        "while parsing a flow",
        "what opens with a bracket in line {begun} lacks a comma or its closing bracket here; a text with one of "
        ", : [ ] {{ }} in it wants quotes",
    ),
    ("while scanning a quoted scalar", "a quote that opens in line {begun} is never closed"),
    ("that cannot start any token", "a text that begins with such a character wants quotes"),
    ("alias", "a text that begins with * wants quotes"),
    ("determine a constructor", "a text that begins with ! wants quotes; declarations have no tags"),
)


_READ_AS = {"bool": "a truth value", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}


def _in_words(error: yaml.MarkedYAMLError) -> str:
    said = " ".join(part for part in (error.context, error.problem) if part)
    mark = error.context_mark or error.problem_mark
    begun = mark.line + 1 if mark else 1
    return next((words.format(begun=begun) for sign, words in _WORDS if sign in said), said)


def _document(node: yaml.Node) -> Document:
    lines: dict[Path, int] = {}
    value = _plain(node, (), lines, ())
    lines[()] = node.start_mark.line + 1
    return Document(value, lines)


def _plain(node: yaml.Node, path: Path, lines: dict[Path, int], above: tuple[int, ...]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if id(node) in above:
        raise YamlProblem("an alias stands inside of what it repeats", line)
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        return dict(_entries(node, path, lines, above))
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*path, n), lines, above) for n, child in enumerate(node.value)]
    # A scalar: SafeLoader's own reading of numbers, booleans and nothing.
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (ValueError, KeyError, OverflowError):  # 2024-13-45, 0b_, !!int x: of the form, and none all the same
        kind = node.tag.rpartition(":")[2]
        raise YamlProblem(f"a value has the form of YAML's {kind} and is none; write it in quotes", line) from None
    if isinstance(value, str) and (bad := _UNWRITABLE.search(value)):  # escaped: the reader refuses plain ones
        raise YamlProblem(f"the character #x{ord(bad[0]):04x} may not stand in a text", line)
    return value


def _entries(
    node: yaml.MappingNode, path: Path, lines: dict[Path, int], above: tuple[int, ...]
) -> Iterator[tuple[str, Any]]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = _plain(key_node, (*path, "?"), {}, above)
        if not isinstance(key, str):
            read_as = _READ_AS.get(key_node.tag.rpartition(":")[2], "no text")
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else key
            raise YamlProblem(f"YAML reads the field name {name!r} as {read_as}; write it in quotes", line)
        if key in seen:
            raise YamlProblem(f"{key!r} stands twice, in line {seen[key]} too; only one of them would count", line)
        seen[key] = line
        lines[(*path, key)] = line
        yield key, _plain(value_node, (*path, key), lines, above)
