"""The endpoints of AI Search for the jobs of an instance and for the service tokens of an account."""

import secrets
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.ai_search_store import ROOT, as_instance, instance_endpoints, instance_of
from syncd.emulator.requests import ApiError, Call, Endpoint, ok, page_rows, timestamp, validate

COOLDOWN_S = 30.0
"""Minimum seconds between the starts of two jobs of an instance. Source: "AI Search: syncing", code 7020."""

# Times are seconds since 1970.
SCHEMA = """
CREATE TABLE IF NOT EXISTS ai_jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, instance INTEGER NOT NULL, description TEXT,
    started_at REAL NOT NULL, ended_at REAL NOT NULL, end_reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS ai_tokens (
    id TEXT PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, cf_api_id TEXT NOT NULL, legacy INTEGER NOT NULL,
    created_at REAL NOT NULL, modified_at REAL NOT NULL
);
"""


class _NewJob(BaseModel):
    description: str | None = None


class _JobChange(BaseModel):
    action: Literal["cancel"]


async def _create_job(call: Call) -> Response:
    """Start a job. The job ends after index_delay, because the stand-in has no source to read.

    The answer of the service for an instance without an external source is unknown. The stand-in accepts such a job.
    """
    instance = instance_of(call)
    job = validate(_NewJob, await call.body() if await call.request.body() else {})
    now = call.backend.clock()
    store = call.backend.store
    latest = store.value("SELECT max(started_at) FROM ai_jobs WHERE instance = ?", (instance.number,))
    if latest is not None and now < latest + COOLDOWN_S:
        raise ApiError(429, 7020, "sync_in_cooldown")
    job_id = secrets.token_hex(16)
    sql = "INSERT INTO ai_jobs (id, instance, description, started_at, ended_at, end_reason) VALUES (?, ?, ?, ?, ?, ?)"
    ended = now + call.backend.options.index_delay
    store.execute(sql, (job_id, instance.number, job.description, now, ended, "completed"))
    return ok(_render_job(call, _job(call, job_id)), status=201)


async def _list_jobs(call: Call) -> Response:
    instance = instance_of(call)
    rows = call.backend.store.all("SELECT * FROM ai_jobs WHERE instance = ? ORDER BY number DESC", (instance.number,))
    return page_rows(call, [_render_job(call, dict(row)) for row in rows])


async def _get_job(call: Call) -> Response:
    return ok(_render_job(call, _job(call, call.path["job_id"])))


async def _cancel_job(call: Call) -> Response:
    job = _job(call, call.path["job_id"])
    validate(_JobChange, await call.body())
    now = call.backend.clock()
    if job["ended_at"] <= now:
        raise ApiError(400, 7046, "job_cannot_be_cancelled")
    sql = "UPDATE ai_jobs SET ended_at = ?, end_reason = 'cancelled' WHERE id = ?"
    call.backend.store.execute(sql, (now, job["id"]))
    return ok(_render_job(call, _job(call, job["id"])))


async def _list_job_logs(call: Call) -> Response:
    job = _job(call, call.path["job_id"])
    lines = [(job["started_at"], "Job started")]
    if job["ended_at"] <= call.backend.clock():
        lines.append((job["ended_at"], f"Job ended: {job['end_reason']}"))
    rows = [
        {"id": number, "created_at": at, "message": message, "message_type": 0}
        for number, (at, message) in enumerate(lines, start=1)
    ]
    return page_rows(call, rows)


def _job(call: Call, job_id: str) -> dict[str, Any]:
    instance = instance_of(call)
    sql = "SELECT * FROM ai_jobs WHERE instance = ? AND id = ?"
    row = call.backend.store.one(sql, (instance.number, job_id))
    if row is None:
        raise ApiError(404, 7021, "job_not_found")
    return dict(row)


def _render_job(call: Call, job: dict[str, Any]) -> dict[str, Any]:
    now = call.backend.clock()
    ended = job["ended_at"] <= now
    return {
        "id": job["id"],
        "source": "user",
        "description": job["description"],
        "started_at": timestamp(job["started_at"]),
        "last_seen_at": timestamp(min(now, job["ended_at"])),
        "ended_at": timestamp(job["ended_at"]) if ended else None,
        "end_reason": job["end_reason"] if ended else None,
    }


class _TokenFields(BaseModel):
    cf_api_id: str = Field(min_length=1)
    cf_api_key: str = Field(min_length=1)
    name: str = Field(min_length=1)
    legacy: bool = False


async def _create_token(call: Call) -> Response:
    fields = validate(_TokenFields, await call.body())
    now = call.backend.clock()
    token_id = secrets.token_hex(16)
    row = (token_id, call.path["account_id"], fields.name, fields.cf_api_id, fields.legacy, now, now)
    call.backend.store.execute("INSERT INTO ai_tokens VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    return ok(_token(call, token_id), status=201)


async def _list_tokens(call: Call) -> Response:
    sql = "SELECT id FROM ai_tokens WHERE account = ? AND instr(lower(name), ?) ORDER BY created_at, id"
    rows = call.backend.store.all(sql, (call.path["account_id"], (call.query("search") or "").lower()))
    return page_rows(call, [_token(call, row["id"]) for row in rows])


async def _get_token(call: Call) -> Response:
    return ok(_token(call, call.path["id"]))


async def _update_token(call: Call) -> Response:
    before = _token(call, call.path["id"])
    fields = validate(_TokenFields, await call.body())
    sql = "UPDATE ai_tokens SET name = ?, cf_api_id = ?, legacy = ?, modified_at = ? WHERE id = ?"
    values = (fields.name, fields.cf_api_id, fields.legacy, call.backend.clock(), before["id"])
    call.backend.store.execute(sql, values)
    return ok(_token(call, before["id"]))


async def _delete_token(call: Call) -> Response:
    token = _token(call, call.path["id"])
    rows = call.backend.store.all("SELECT * FROM ai_instances WHERE account = ?", (call.path["account_id"],))
    if any(as_instance(row).config.get("token_id") == token["id"] for row in rows):
        raise ApiError(409, 7076, "token_in_use_by_instances")
    call.backend.store.execute("DELETE FROM ai_tokens WHERE id = ?", (token["id"],))
    return ok(token)


def _token(call: Call, token_id: str) -> dict[str, Any]:
    """Return the token as the API shows it, without its key. Raises ApiError 404 if it does not exist."""
    sql = "SELECT * FROM ai_tokens WHERE account = ? AND id = ?"
    row = call.backend.store.one(sql, (call.path["account_id"], token_id))
    if row is None:
        raise ApiError(404, 7075, "token_not_found")
    times = {name: timestamp(row[name]) for name in ("created_at", "modified_at")}
    shown = {name: row[name] for name in ("id", "name", "cf_api_id")}
    return shown | times | {"enabled": True, "legacy": bool(row["legacy"])}


ENDPOINTS = [
    *instance_endpoints("POST", "/{id}/jobs", _create_job),
    *instance_endpoints("GET", "/{id}/jobs", _list_jobs),
    *instance_endpoints("GET", "/{id}/jobs/{job_id}", _get_job),
    *instance_endpoints("PATCH", "/{id}/jobs/{job_id}", _cancel_job),
    *instance_endpoints("GET", "/{id}/jobs/{job_id}/logs", _list_job_logs),
    Endpoint("POST", f"{ROOT}/tokens", _create_token),
    Endpoint("GET", f"{ROOT}/tokens", _list_tokens),
    Endpoint("GET", f"{ROOT}/tokens/{{id}}", _get_token),
    Endpoint("PUT", f"{ROOT}/tokens/{{id}}", _update_token),
    Endpoint("DELETE", f"{ROOT}/tokens/{{id}}", _delete_token),
]
