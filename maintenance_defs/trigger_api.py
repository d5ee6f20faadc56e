"""The HTTP trigger (S2-20, S2-21): who knows the secret may ask for a reconciliation. It never executes one.

    GET /api/cron/maintenance[?system=<name>][&wait=1]
    Authorization: Bearer <CRON_SECRET>
    Idempotency-Key: <any text>          optional: the same key is the same request

    202 {"requests": [{"id", "system", "state", "run_id", "verdict"}]}    asked for
    200 the same, each with "report"    ?wait=1, and all of them have ended
    409 {"error", "requests"}           another request of every system asked for is still open
    401, 404 (unknown system), 405 (any method but GET), 503 (no usable CRON_SECRET)

A request is a row in the control database; a sensor starts the runs.
"""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from maintenance_defs.control.database import Control, Request
from maintenance_defs.control.home import Home

PATH = "/api/cron/maintenance"
SECRET = "CRON_SECRET"  # noqa: S105  (the variable's name)
MIN_SECRET_LENGTH = 16  # what a person types by hand can be guessed
LOST_AFTER = timedelta(hours=6)  # run monitoring ends every run by then (deploy/dagster.yaml)
POLL_SECONDS = 0.5

Report = Callable[[Request], Mapping[str, Any]]


def trigger_app(
    home: Home, systems: Collection[str], report: Report, *, wait_limit: timedelta = timedelta(minutes=5)
) -> Starlette:
    """The application; its secret is the home's CRON_SECRET at this moment.

    systems: those whose declaration asks for this trigger; nothing else can be asked for.
    report: the report on a finished request, for ?wait=1; called in a thread.
    """
    secret = home.environment.get(SECRET, "").strip().encode()

    async def maintenance(http: HttpRequest) -> JSONResponse:
        if len(secret) < MIN_SECRET_LENGTH:
            return _error(503, f"{SECRET} is unset or shorter than {MIN_SECRET_LENGTH} characters: set it and restart.")
        if not _authorised(http, secret):
            return _error(401, "Send 'Authorization: Bearer <secret>'.", {"WWW-Authenticate": "Bearer"})
        wanted = list(dict.fromkeys(http.query_params.getlist("system") or systems))
        if unknown := sorted(set(wanted) - set(systems)):
            return _error(
                404, f"No such system with an HTTP trigger: {unknown[0]}. Known: {', '.join(sorted(systems))}."
            )
        if not wanted:
            return _error(404, "No system has an HTTP trigger: declare one below sensors/.")
        key = http.headers.get("idempotency-key") or uuid.uuid4().hex
        asked = await run_in_threadpool(_ask, home.control, key, wanted)
        if all(request.key != key for request in asked):
            ids = ", ".join(request.run_id or f"request {request.id}" for request in asked)
            return JSONResponse(
                {"error": f"Still running: {ids}. Nothing was started.", "requests": [_shown(r) for r in asked]}, 409
            )
        if http.query_params.get("wait") == "1":
            asked = await _ended(home.control, asked, wait_limit)
            if all(request.finished_at for request in asked):
                shown = [
                    _shown(r) | {"report": await run_in_threadpool(report, r) if r.artefact_id else None} for r in asked
                ]
                return JSONResponse({"requests": shown}, 200)
        return JSONResponse({"requests": [_shown(request) for request in asked]}, 202)

    route = Route(PATH, maintenance)
    route.methods = {"GET"}  # Starlette adds HEAD, which must not ask for anything
    return Starlette(routes=[route])


def run(app: Starlette, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until interrupted."""
    uvicorn.run(app, host=host, port=port, log_level="info")


def _authorised(http: HttpRequest, secret: bytes) -> bool:
    given = [value for name, value in http.headers.raw if name == b"authorization"]
    if len(given) != 1:
        return False
    scheme, _, token = given[0].partition(b" ")
    return hmac.compare_digest(token.strip(), secret) and scheme.lower() == b"bearer"


def _ask(control: Control, key: str, systems: list[str]) -> list[Request]:
    lost_before = datetime.now(UTC) - LOST_AFTER
    return [control.add_request(key, system, "reconcile", lost_before=lost_before) for system in systems]


async def _ended(control: Control, asked: list[Request], limit: timedelta) -> list[Request]:
    """The requests as they are once all have ended or the limit has passed."""
    deadline = asyncio.get_running_loop().time() + limit.total_seconds()
    while True:
        asked = [await run_in_threadpool(control.get_request, request.id) for request in asked]
        if all(request.finished_at for request in asked) or asyncio.get_running_loop().time() >= deadline:
            return asked
        await asyncio.sleep(POLL_SECONDS)


def _shown(request: Request) -> dict[str, Any]:
    return {
        "id": request.id,
        "system": request.system,
        "state": request.state,
        "run_id": request.run_id,
        "verdict": request.verdict,
    }


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers=headers)
