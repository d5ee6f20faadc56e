"""One sensor per kind of trigger, over all systems: hundreds of sensors would be evaluated late, each.

They read tables, never list buckets. A cursor moves only when its runs were handed over; the
`run_key` is the id of the cause, so that a tick that is repeated starts nothing twice.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from maintenance_defs.components.steps import TAG, job_name
from maintenance_defs.control.database import Request
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.core.triggers import RowSensor, Trigger
from maintenance_defs.reconcile.reading.news import News, Position, read_news

REQUEST_TAG = "maintenance/request"
REQUEST_SECONDS = 10  # somebody waits for the answer
CAUSE_TAG = "maintenance/cause"
UNFINISHED = tuple(status for status in dg.DagsterRunStatus if status not in (
    dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED
))  # fmt: skip
SLACK_SECONDS = 1.0  # ticks come a little early at times

Job = UnresolvedAssetJobDefinition | dg.JobDefinition


def row_changes(
    sensors: Sequence[RowSensor],
    systems: Mapping[str, System],
    jobs: Sequence[Job],
    clock: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """Starts a reconciliation or a cycle for every declaration whose newest row is newer than the last tick's.

    The first tick only remembers where the table ends: what was there before is no news. Rows of one
    tick start one run, which plans only the groups that they belong to, where groups are watched. A transaction
    that commits late, behind the cursor, starts none: the clock does, which plans the policy whole.
    clock: seconds since 1970; decides only whether a declaration is due.
    """

    @dg.sensor(
        name="row_changes",
        jobs=jobs,
        minimum_interval_seconds=max(1, int(min(sensor.every for sensor in sensors).total_seconds())),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Watches for new rows:\n\n" + "\n".join(f"- {_words(sensor)}" for sensor in sensors),
    )
    def sensor(context: dg.SensorEvaluationContext, home: dg.ResourceParam[Home]) -> dg.SensorResult | dg.SkipReason:
        state: dict[str, dict[str, Any]] = json.loads(context.cursor) if context.cursor else {}
        kept = {cause_id(s): state[cause_id(s)] for s in sensors if cause_id(s) in state}
        requests, troubles = [], []
        for declared in sensors:
            name, now = cause_id(declared), clock()
            known = kept.get(name)
            # A clock that was set back must not silence it until the old time comes again.
            if known and 0 <= now - known["looked_at"] < declared.every.total_seconds() - SLACK_SECONDS:
                continue
            before: Position | None = known["position"] if known else None
            try:
                news = read_news(declared, systems[declared.system], home, before)
            except MaintenanceError as error:
                troubles.append(f"{declared.system} could not be asked: {error}")
                continue
            if news and known and news.groups != ():
                # The cursor stays: what is new now is found again when the cycle has ended (A1-8).
                if declared.policy and (why := still_running(context.instance, declared)):
                    troubles.append(why)
                    continue
                context.log.info(f"{declared.system}: {news.said}")
                requests.append(_run(declared, f"{name}:{':'.join(news.position)}", news))
            kept[name] = {"position": news.position if news else before, "looked_at": now}
        for trouble in troubles:
            context.log.warning(trouble)
        context.update_cursor(json.dumps(kept))
        if not requests:
            return dg.SkipReason(" ".join(troubles) or "No row is new.")
        return dg.SensorResult(run_requests=requests)

    return sensor


def cause_id(sensor: RowSensor) -> str:
    """Of a declaration; another table, condition or cursor begins anew."""
    watch = sensor.watch
    said = watch.model_dump_json(exclude={"groups"})  # which groups are planned moves no cursor
    return f"{sensor.system}:{watch.table}:{sha256(said.encode()).hexdigest()[:8]}"


def requested_reconciliations(systems: Sequence[str], jobs: Sequence[Job]) -> dg.SensorDefinition:
    """Turns requests of `maintain serve` into runs, and tells the control database how they ended.

    The cursor holds the ids of requests whose run has not ended.
    """

    @dg.sensor(
        name="requested_reconciliations",
        jobs=jobs,
        minimum_interval_seconds=REQUEST_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts what `maintain serve` was asked for: {', '.join(systems)}.",
    )
    def sensor(context: dg.SensorEvaluationContext, home: dg.ResourceParam[Home]) -> dg.SensorResult | dg.SkipReason:
        begun: list[int] = json.loads(context.cursor) if context.cursor else []
        pending = home.control.pending_requests()
        known = {request.id: request for request in pending}
        still = [id_ for id_ in sorted({*begun, *known}) if _keep(context, home, id_)]
        requests = []
        for request in pending:
            if request.system not in systems:
                home.control.mark_request(request.id, verdict="refused")
            elif request.id in still:
                cause = request_cause(request)
                job = job_name(request.system)
                requests.append(dg.RunRequest(cause, job_name=job, tags={TAG: request.system, REQUEST_TAG: cause}))
        context.update_cursor(json.dumps(still))
        return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason("Nothing was asked for.")

    return sensor


def _keep(context: dg.SensorEvaluationContext, home: Home, id_: int) -> bool:
    """Whether the request is still to be looked after; tells the control database what became of its run."""
    request: Request | None = home.control.find_request(id_)
    if request is None or request.finished_at is not None:
        return False  # of a control database that was replaced; or given up as lost
    tags = {REQUEST_TAG: request_cause(request)}
    runs = context.instance.get_runs(filters=dg.RunsFilter(tags=tags), limit=1)
    if not runs:
        return True
    run = runs[0]  # the newest, where one was repeated
    home.control.mark_request(id_, run_id=run.run_id)
    if not run.is_finished:
        return True
    diffs = home.control.history(request.system, "orphan_diff")
    diff = next((artefact for artefact in diffs if artefact.run_id == run.run_id), None)
    verdict = diff.verdict if diff else run.status.value.lower()
    home.control.mark_request(id_, run_id=run.run_id, verdict=verdict, artefact_id=diff.id if diff else None)
    return False


def request_cause(request: Request) -> str:
    """Of one request, in tags and run keys.

    The id alone is not enough: a control database that was restored gives it out again, and Dagster
    would take the run of the former request for the answer.
    """
    return f"request-{request.id}-{request.requested_at:%Y%m%dT%H%M%S%fZ}"


def _run(trigger: RowSensor, key: str, news: News) -> dg.RunRequest:
    """The job; where groups are watched, its plans are told which of them are new (S0-30)."""
    config = {"config": {"groups": list(news.groups)}} if news.groups else None
    return dg.RunRequest(
        job_name=job_name(trigger.system, trigger.starts),
        run_key=key,
        run_config={"ops": {f"{trigger.system}__{name}_plan": config for name in trigger.policy}} if config else {},
        tags={TAG: trigger.system, CAUSE_TAG: news.said},
    )


def still_running(instance: dg.DagsterInstance, trigger: Trigger) -> str | None:
    """Why no further cycle is started: the one before has not ended (A1-8)."""
    job = job_name(trigger.system, trigger.starts)
    found = instance.get_runs(dg.RunsFilter(job_name=job, statuses=list(UNFINISHED)), limit=1)
    if not found:
        return None
    return f"The previous cycle of {job} is still running (run {found[0].run_id[:8]}); nothing was started."


def _words(sensor: RowSensor) -> str:
    watch = sensor.watch
    return f"{sensor.system}: `{watch.table}`{f' where `{watch.where}`' if watch.where else ''}"
