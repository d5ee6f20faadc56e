"""Cloudflare D1's HTTP API over a real SQLite file, in the shapes and with the limits that Cloudflare documents.

A JavaScript program stands between D1's SQLite and its HTTP: integers above 2^53 are rounded, blobs become lists of
numbers, text that is no UTF-8 loses its bytes. So they do here. Faults are put in a list; each one meets one request.
"""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ACCOUNT = "0123456789abcdef0123456789abcdef"
DATABASE = "6f0e1d2c-3b4a-4958-8776-655443322110"
TOKEN = "v1.0-secret+token/with=signs@x"
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 2_000_000 + 200_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 5,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 32,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 50,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 100,
}
FORBIDDEN = (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT)
WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE)", re.IGNORECASE)


@dataclass
class D1:
    """A running server; `url` has its token, `place` has none."""

    file: Path
    place: str
    url: str
    faults: list[str] = field(default_factory=list)  # of the next requests: see _Handler.fault
    only: Callable[[list[dict[str, Any]]], bool] = lambda _: True  # whom a fault may meet, by the statements
    before: Callable[[], None] | None = None  # called once, before the next statement request
    asked: list[list[dict[str, Any]]] = field(default_factory=list)  # the statements of every request
    tokens: dict[str, bool] = field(default_factory=lambda: {TOKEN: True})  # token -> whether it may write


def writes(statements: list[dict[str, Any]]) -> bool:
    return any(WRITES.match(one["sql"]) for one in statements)


@contextmanager
def d1_server(file: Path) -> Iterator[D1]:
    sqlite3.connect(file).close()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    port = server.server_address[1]
    query = f"endpoint_url=http://127.0.0.1:{port}/client/v4"
    secret = "v1.0-secret%2Btoken%2Fwith%3Dsigns%40x"
    server.d1 = D1(  # type: ignore[attr-defined]
        file, f"d1://{ACCOUNT}/{DATABASE}?{query}", f"d1://:{secret}@{ACCOUNT}/{DATABASE}?{query}"
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.d1  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def d1(self) -> D1:
        return self.server.d1  # type: ignore[attr-defined, no-any-return]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if not self._known():
            return
        if not self.path.endswith("/time_travel/bookmark"):
            return self._fail(404, 7404, "not found")
        # SQLite's own counter of commits, in its file.
        raw = self.d1.file.read_bytes()[24:28]
        counter = struct.unpack(">I", raw)[0] if raw else 0
        self._say(200, {"result": {"bookmark": f"00000001-{counter:08x}-00004e2f-{DATABASE}"}, "success": True})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._known():
            return
        statements = body.get("batch", [body])
        d1 = self.d1
        d1.asked.append(statements)
        if (hook := d1.before) is not None:
            d1.before = None
            hook()
        fault = d1.faults.pop(0) if d1.faults and d1.only(statements) else ""
        if fault.startswith("429"):
            return self._fail(429, 971, "rate limited", {"Retry-After": fault[3:].strip() or "0"})
        if fault in ("500", "html", "cut"):
            return self._answer_badly(fault)
        if writes(statements) and not d1.tokens[self.headers["Authorization"].removeprefix("Bearer ")]:
            return self._fail(403, 10000, "Authentication error")
        try:
            result = run(d1.file, statements)
        except (sqlite3.Error, ValueError) as error:
            return self._fail(400, 7500, f"{error}: SQLITE_ERROR")
        if fault:
            return self._answer_badly(fault, result)
        self._say(200, {"result": result, "success": True, "errors": [], "messages": []})

    def _answer_badly(self, fault: str, result: Any = None) -> None:
        """Before anything is done: `429 <seconds>`, `500`, `html`, `cut`. After it: `500 after`, `cut after`,
        `slow after`, `truncated`, `shape`, `ragged`, `replica`, `fewer`, `none`.
        """
        match fault:
            case "500" | "500 after":
                self._fail(500, 7500, "internal error")
            case "html":
                self._raw(502, b"<html>bad gateway</html>")
            case "cut" | "cut after":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case "slow after":
                time.sleep(1.5)
                self.close_connection = True
            case "truncated":
                whole = json.dumps({"result": result, "success": True}).encode()
                self._raw(200, whole[: len(whole) // 2])
            case "shape":
                self._say(200, {"result": [{"success": True, "results": [{"a": 1}]}], "success": True})
            case "replica":
                for one in result:
                    one["meta"]["served_by_primary"] = False
                self._say(200, {"result": result, "success": True})
            case "fewer":
                for one in result:
                    one["results"]["rows"] = one["results"]["rows"][:-1]
                self._say(200, {"result": result, "success": True})
            case "ragged":
                for one in result:
                    one["results"]["rows"] = [row[:-1] for row in one["results"]["rows"]] or [[]]
                self._say(200, {"result": result, "success": True})
            case "none":
                for one in result:
                    one["results"]["rows"] = []
                self._say(200, {"result": result, "success": True})
            case _:
                raise AssertionError(fault)

    def _known(self) -> bool:
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.d1.tokens:
            self._fail(401, 10000, f"Authentication error: {self.headers.get('Authorization')}")
            return False
        if f"/accounts/{ACCOUNT}/d1/database/{DATABASE}/" not in self.path:
            self._fail(404, 7404, "The database could not be found")
            return False
        return True

    def _fail(self, status: int, code: int, message: str, headers: dict[str, str] | None = None) -> None:
        said = {"result": None, "success": False, "errors": [{"code": code, "message": message}], "messages": []}
        self._say(status, said, headers)

    def _say(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        self._raw(status, json.dumps(said).encode(), headers)

    def _raw(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def run(file: Path, statements: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One transaction of statements, each with what it gave."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        connection.create_function("unhex", 1, lambda text: None if text is None else bytes.fromhex(text))
        connection.execute("BEGIN IMMEDIATE")
        for limit, value in LIMITS.items():
            connection.setlimit(limit, value)
        connection.set_authorizer(
            lambda action, one, *_: (
                sqlite3.SQLITE_DENY
                if action in FORBIDDEN or (action == sqlite3.SQLITE_READ and str(one).startswith("_cf_"))
                else sqlite3.SQLITE_OK
            )
        )
        result = [_one(connection, one) for one in statements]
        connection.set_authorizer(None)
        connection.execute("COMMIT")
    return result


def _one(connection: sqlite3.Connection, statement: dict[str, Any]) -> dict[str, Any]:
    before = connection.total_changes
    params = statement.get("params") or []
    if not all(isinstance(value, str | int | float | None) for value in params):
        raise ValueError("params must be strings")
    if not statement["sql"].isascii():  # as workerd takes it: UTF-8
        statement["sql"].encode()
    cursor = connection.execute(statement["sql"], params)
    columns = [column[0] for column in cursor.description or ()]
    rows = [[_javascript(value) for value in row] for row in cursor]
    changes = connection.total_changes - before
    meta = {
        "changed_db": changes > 0, "changes": changes, "duration": 0.2, "rows_read": len(rows),
        "rows_written": changes, "served_by_primary": True, "served_by_region": "WEUR",
    }  # fmt: skip
    return {"results": {"columns": columns, "rows": rows}, "success": True, "meta": meta}


def _javascript(value: Any) -> Any:
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, int) and abs(value) > 2**53:
        return float(value)
    return value
