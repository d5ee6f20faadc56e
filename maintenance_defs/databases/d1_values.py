"""Values on their way to and from D1, exact: its JSON would round large integers and lose bytes that are no UTF-8.

Every value travels as printable ASCII: a letter for its storage class, then its text, or hexadecimal where the text is
more than printable ASCII. A row travels as its values with a line feed between two of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from maintenance_defs.core.errors import SourceUnavailable

# n: NULL; i, r: numbers (fractions by quote(), which keeps every digit); b: a blob; t, x: text, plain or hexadecimal.
# The two lengths differ where a zero byte ends the text for GLOB.
_CODE = (
    "CASE typeof({0}) WHEN 'null' THEN 'n' WHEN 'integer' THEN 'i' || {0} WHEN 'real' THEN 'r' || quote({0}) "
    "WHEN 'blob' THEN 'b' || hex({0}) ELSE CASE WHEN {0} NOT GLOB '*[^ -~]*' "
    "AND length({0}) = length(CAST({0} AS BLOB)) THEN 't' || {0} ELSE 'x' || hex({0}) END END"
)
_PRINTABLE = re.compile(r"[ -~]*")
_READ: dict[str, Callable[[str], Any]] = {
    "n": lambda _: None,
    "i": int,
    "r": float,
    "b": bytes.fromhex,
    "t": str,
}
_SAID = {
    "i": "CAST(? AS INTEGER)",
    "r": "CAST(? AS REAL)",
    "b": "unhex(?)",
    "t": "?",
    "x": "CAST(unhex(?) AS TEXT)",
}
NAMES = {"i": "integer", "r": "real", "b": "blob", "t": "text", "x": "text"}


def code_of(values: Sequence[str]) -> str:
    """SQL for the code of a row of SQL values. Balanced: D1 permits expressions that are 100 deep."""
    if len(values) == 1:
        return f"({_CODE.format(values[0])})"
    half = len(values) // 2
    return f"({code_of(values[:half])} || char(10) || {code_of(values[half:])})"


def codes(row: Any, width: int) -> list[str]:
    """The codes of a row's values. Raises SourceUnavailable for what is no such row."""
    found = row.split("\n") if isinstance(row, str) else []
    if len(found) != width or not all(code and code[0] in "nirbtx" for code in found):
        raise SourceUnavailable("D1 answered a row in another form than it was asked for. Nothing was concluded.")
    return found


def value_of(code: str) -> Any:
    """None, int, float, str or bytes; text that is no UTF-8 comes as NotUtf8."""
    letter, text = code[0], code[1:]
    if letter != "x":
        return _READ[letter](text)
    raw = bytes.fromhex(text)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return NotUtf8(raw)


class NotUtf8(bytes):
    """The bytes of text that is no UTF-8."""


def code_of_value(value: Any) -> str:
    """The code of what value_of() gives. A fraction's text is Python's: as exact as SQLite's, not the same."""
    if value is None:
        return "n"
    if isinstance(value, bool | int):
        return f"i{int(value)}"
    if isinstance(value, float):
        return f"r{value!r}"
    if isinstance(value, bytes):
        return ("x" if isinstance(value, NotUtf8) else "b") + value.hex().upper()
    text = str(value)
    return f"t{text}" if _PRINTABLE.fullmatch(text) else f"x{text.encode().hex().upper()}"


def said(code: str) -> tuple[str, list[str]]:
    """SQL for the value of a code, with its parameter: strings only, which is what the API documents."""
    if code == "n":
        return "NULL", []
    if code[0] == "r" and math.isinf(float(code[1:])):  # quote() writes Inf or 9.0e+999, by SQLite's version
        return f"{'-' if float(code[1:]) < 0 else ''}9e999", []
    return _SAID[code[0]], [code[1:]]
