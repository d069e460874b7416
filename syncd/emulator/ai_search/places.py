"""Which namespace and instance a request is about."""

import json
import re
from dataclasses import dataclass
from typing import Any

from syncd.emulator.envelope import ApiError
from syncd.emulator.routing import Backend, Call, Endpoint, Handler

DEFAULT = "default"
ROOT = "/accounts/{account_id}/ai-search"
NAME = re.compile(r"(?=.{1,64}\Z)[a-z0-9_]+(?:-[a-z0-9_]+)*\Z")
"""1-64 lowercase letters, digits, hyphens, underscores (API reference); hyphens stand single and inside (types)."""


@dataclass(frozen=True)
class Instance:
    """An instance as stored. number: its key in the database; config: what its creator and its editors said."""

    number: int
    account: str
    namespace: str
    id: str
    config: dict[str, Any]
    created_at: float
    modified_at: float


def both(method: str, below: str, handler: Handler) -> list[Endpoint]:
    """The endpoint under /instances of a namespace and under the plain /instances."""
    return [
        Endpoint(method, f"{ROOT}/namespaces/{{name}}/instances{below}", handler),
        Endpoint(method, f"{ROOT}/instances{below}", handler),
    ]


def namespace_of(call: Call) -> str:
    """The namespace in the path, "default" if the path has none; ApiError 404 if it does not exist."""
    account, name = call.path["account_id"], call.path.get("name", DEFAULT)
    if not namespace_exists(call.backend, account, name):
        if not call.backend.options.create_instances or NAME.match(name) is None:
            raise ApiError(404, 7063, "namespace_not_found")
        add_namespace(call.backend, account, name, None)
    return name


def namespace_exists(backend: Backend, account: str, name: str) -> bool:
    """Whether it is there; "default" always is."""
    found = backend.store.one("SELECT 1 FROM ai_namespaces WHERE account = ? AND name = ?", (account, name))
    return name == DEFAULT or found is not None


def add_namespace(backend: Backend, account: str, name: str, description: str | None) -> None:
    """Notes a namespace that is not there yet."""
    row = (account, name, description, backend.clock())
    backend.store.run("INSERT INTO ai_namespaces VALUES (?, ?, ?, ?)", row)


def instance_of(call: Call) -> Instance:
    """The instance in the path; ApiError 404 if it or its namespace does not exist."""
    place = (call.path["account_id"], namespace_of(call), call.path["id"])
    found = find_instance(call.backend, place)
    if found is None and call.backend.options.create_instances and NAME.match(place[2]):
        add_instance(call.backend, place, {})
        found = find_instance(call.backend, place)
    if found is None:
        raise ApiError(404, 7002, "ai_search_not_found")
    return found


def find_instance(backend: Backend, place: tuple[str, str, str]) -> Instance | None:
    """The instance at (account, namespace, id), or None."""
    sql = "SELECT * FROM ai_instances WHERE account = ? AND namespace = ? AND id = ?"
    row = backend.store.one(sql, place)
    return None if row is None else as_instance(dict(row))


def as_instance(row: dict[str, Any]) -> Instance:
    """A row of ai_instances as a value."""
    return Instance(**(row | {"config": json.loads(row["config"])}))


def add_instance(backend: Backend, place: tuple[str, str, str], config: dict[str, Any]) -> None:
    """Notes an instance that is not there yet."""
    now = backend.clock()
    sql = "INSERT INTO ai_instances (account, namespace, id, config, created_at, modified_at) VALUES (?, ?, ?, ?, ?, ?)"
    backend.store.run(sql, (*place, json.dumps(config), now, now))
