"""Cloudflare D1 over its HTTP API: statements in, rows out, and what became of a request that was not answered.

Belongs here: one request and its repetition. Does not: which statements, what rows mean.

As Cloudflare documents it (API reference "Raw D1 Database query"; D1 "Limits", "D1 Database", "Time Travel", "Global
read replication"): the statements of one request are one transaction; a statement has at most 100,000 bytes and 100
parameters, a value or row 2,000,000 bytes, a request 30 seconds; without the Sessions API, which only Workers have, the
primary answers.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3
from sqlalchemy import URL

from maintenance_defs.core.errors import SourceUnavailable

API = "https://api.cloudflare.com/client/v4"
WAIT_SECONDS = 45.0  # for an answer: Cloudflare ends a request after 30 s
SETTLED_SECONDS = 35.0  # so long after it was sent, what a lost request did is there to be seen
TRIES = 6
READ_PATIENCE_SECONDS = 330.0  # together, between tries: who asks too often is kept out for five minutes
CHANGE_PATIENCE_SECONDS = 20.0  # what was verified before a change must not grow old
MAX_STATEMENT_BYTES = 100_000
MAX_PARAMETERS = 100
MAX_ANSWER_BYTES = 64 * 2**20  # ours; asked for are pages of a few MB
LOOPBACK = ("127.0.0.1", "localhost", "::1")

T = TypeVar("T")
_ACCOUNT = re.compile(r"[0-9a-f]{32}")
_DATABASE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Statement:
    """One statement with `?` markers."""

    sql: str
    parameters: Sequence[Any] = ()


@dataclass(frozen=True)
class Answer:
    """What one statement gave."""

    columns: list[str]
    rows: list[list[Any]]


class D1Refused(SourceUnavailable):
    """D1 refused a statement: nothing of its request was done. `words` are D1's."""

    def __init__(self, message: str, words: str) -> None:
        self.words = words
        super().__init__(message)


class D1Unsure(SourceUnavailable):
    """A changing request was sent and not answered: it may have been done, or not, or be done yet."""

    def __init__(self, message: str, sent_at: float) -> None:
        self.sent_at = sent_at  # time.monotonic()
        super().__init__(message, transient=True)


class D1Client:
    """One database, one token. What only reads is repeated; a change only where it is sure to be not done.

    url: d1://:<token>@<account>/<database>[?endpoint_url=…].
    Raises SourceUnavailable for a URL that is none, and never repeats the token.
    """

    def __init__(self, url: URL) -> None:
        account, database = url.host or "", url.database or ""
        endpoint = str(url.query.get("endpoint_url", API)).rstrip("/")
        if not _ACCOUNT.fullmatch(account) or not _DATABASE.fullmatch(database):
            raise SourceUnavailable(
                "the D1 URL cannot be read. Write d1://<account id>/<database id>: 32 hexadecimal digits, and a UUID. "
                "Nothing was read."
            )
        if not url.password:
            raise SourceUnavailable(
                f"there is no token for d1://{account}/{database}. Nothing was read: name the variable that holds it "
                f"as `token_env` beside `url_env`."
            )
        parts = urlsplit(endpoint)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise SourceUnavailable("endpoint_url of the D1 URL must be https: the token would be readable on its way.")
        self.display_url = f"d1://{account}/{database}"
        self.identity = f"d1:{account}/{database}"
        self._token = str(url.password)
        self._base = f"{endpoint}/accounts/{account}/d1/database/{database}"
        self._http = urllib3.PoolManager(timeout=WAIT_SECONDS, retries=False)

    def __repr__(self) -> str:
        return f"D1Client({self.display_url!r})"

    def read(self, statements: Sequence[Statement]) -> list[Answer]:
        """Every statement's rows, all at one moment. Raises D1Refused, SourceUnavailable."""
        return self._repeated(lambda: self._run(statements, "read"))

    def change(self, statements: Sequence[Statement]) -> list[Answer]:
        """The same in one transaction, done or not done as a whole; sent again only while it is sure to be not done.

        Raises D1Refused when nothing was done, D1Unsure when nobody knows, SourceUnavailable when it was not taken.
        """
        return self._repeated(lambda: self._run(statements, "changed"), CHANGE_PATIENCE_SECONDS)

    def bookmark(self) -> str:
        """Where the database stands: another word after every change."""

        def ask() -> str:
            status, headers, body = self._send("GET", "/time_travel/bookmark", None, "read")
            result = self._understood(status, headers, body, "read")
            found = result.get("bookmark") if isinstance(result, dict) else None
            if not isinstance(found, str) or not found:
                raise self._unreadable("no bookmark in the answer", "read", 0.0)
            return found

        return self._repeated(ask)

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def settle(self, unsure: D1Unsure) -> None:
        """Wait until what the request did can be seen."""
        self.pause(max(0.0, unsure.sent_at + SETTLED_SECONDS - time.monotonic()))

    def _repeated(self, ask: Callable[[], T], patience: float = READ_PATIENCE_SECONDS) -> T:
        for attempt in range(1, TRIES):
            try:
                return ask()
            except _Again as error:
                seconds = error.seconds(attempt)
                if seconds > patience:
                    raise
                patience -= seconds
                self.pause(seconds)
        return ask()

    def _run(self, statements: Sequence[Statement], done: str) -> list[Answer]:
        for one in statements:
            size = len(one.sql.encode())
            if size > MAX_STATEMENT_BYTES or len(one.parameters) > MAX_PARAMETERS:
                words = (
                    f"a statement of {size:,} bytes with {len(one.parameters)} parameters is more than D1 takes "
                    f"({MAX_STATEMENT_BYTES:,} bytes, {MAX_PARAMETERS} parameters)"
                )
                raise D1Refused(f"{self.display_url}: {words}. Nothing was {done}.", words)
        batch = {"batch": [{"sql": one.sql, "params": list(one.parameters)} for one in statements]}
        sent_at = time.monotonic()
        status, headers, body = self._send("POST", "/raw", json.dumps(batch).encode(), done)
        result = self._understood(status, headers, body, done, sent_at)
        if not isinstance(result, list) or len(result) != len(statements):
            raise self._unreadable(f"not {len(statements)} results in the answer", done, sent_at)
        return [self._answer(one, done, sent_at) for one in result]

    def _send(self, method: str, path: str, body: bytes | None, done: str) -> tuple[int, Any, bytes]:
        """One request. The answer may be cut off, or not come."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        sent_at = time.monotonic()
        try:
            answer = self._http.request(
                method, self._base + path, body=body, headers=headers, redirect=False, preload_content=False
            )
            try:
                content = answer.read(MAX_ANSWER_BYTES + 1)
            finally:
                answer.release_conn() if answer.length_remaining == 0 else answer.close()
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise _Again(
                f"{self.display_url} cannot be reached ({type(error).__name__}). Nothing was {done}."
            ) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreadable(f"no answer ({type(error).__name__})", done, sent_at) from None
        if len(content) > MAX_ANSWER_BYTES:
            raise self._unreadable(
                f"an answer of more than {MAX_ANSWER_BYTES // 2**20} MiB", done, sent_at, again=False
            )
        return answer.status, answer.headers, content

    def _understood(self, status: int, headers: Any, body: bytes, done: str, sent_at: float = 0.0) -> Any:
        """The `result` of an answer that says success."""
        try:
            said = json.loads(body)
        except ValueError:
            said = None
        if status == 429:  # refused at the door: nothing was done
            raise _Again(f"{self.display_url} takes no more requests for now. Nothing was {done}.", headers)
        if isinstance(said, dict) and said.get("success") is True and 200 <= status < 300:
            return said.get("result")
        words = self._words(said)
        if 400 <= status < 500 and status != 408:
            why = {401: "the token is not known", 403: "the token may not do this", 404: "there is no such database"}
            words = words or why.get(status, f"HTTP {status}")
            todo = f" {why[status].capitalize()}: correct it, or its rights." if status in why else ""
            raise D1Refused(f"{self.display_url}: {words}. Nothing was {done}.{todo}", words)
        raise self._unreadable(f"HTTP {status}{': ' + words if words else ''}", done, sent_at)

    def _words(self, said: Any) -> str:
        errors = said.get("errors") if isinstance(said, dict) else None
        words = [str(e["message"]) for e in errors or [] if isinstance(e, dict) and e.get("message")]
        return "; ".join(words).replace(self._token, "***")[:300].rstrip(". ")

    def _answer(self, one: Any, done: str, sent_at: float) -> Answer:
        found = one.get("results") if isinstance(one, dict) and one.get("success") is True else None
        columns, rows = (found.get("columns"), found.get("rows")) if isinstance(found, dict) else (None, None)
        if not isinstance(columns, list) or not isinstance(rows, list):
            raise self._unreadable("a result without columns and rows", done, sent_at)
        if any(not isinstance(row, list) or len(row) != len(columns) for row in rows):
            raise self._unreadable("rows that do not have the columns of their result", done, sent_at)
        meta = one.get("meta")
        if isinstance(meta, dict) and meta.get("served_by_primary") is False:
            raise SourceUnavailable(
                f"{self.display_url} was answered by a read replica, which may lack rows that were just written. "
                f"Nothing was concluded."
            )
        return Answer(columns, rows)

    def _unreadable(self, what: str, done: str, sent_at: float, again: bool = True) -> SourceUnavailable:
        """What to raise when an answer does not say what was done."""
        if done == "changed":
            return D1Unsure(f"{self.display_url} gave {what}: whether rows were changed is not known.", sent_at)
        words = f"{self.display_url} gave {what}. Nothing was concluded from it."
        return _Again(words) if again else SourceUnavailable(words)


class _Again(SourceUnavailable):
    """Nothing was done; the same request may be sent again."""

    def __init__(self, message: str, headers: Any = None) -> None:
        self._after = str(headers.get("Retry-After", "")) if headers is not None else ""
        super().__init__(message, transient=True)

    def seconds(self, attempt: int) -> float:
        """How long to wait."""
        if self._after.isdigit():
            return float(self._after)
        return 0.5 * float(2**attempt)
