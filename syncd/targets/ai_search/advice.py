"""Facts about an instance for `syncd check`: the permissions of the token, and the use of the plan's ceilings.

The documentation names two permissions: to read and write an instance (Edit), and to search it (Run). No route tells
which of them a token has ("AI Search: REST API, create an API token"), and the answer to a search without Run is
unknown. A search that is refused while the instance can be read therefore means that Run is missing.

The ceilings are those of "AI Search: limits and pricing", October 2026. Cloudflare raises them for single accounts on
request, and no route tells the plan of an account. They are therefore advice, and nothing is refused because of them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from syncd.cloudflare.ai_search import EDIT, RUN, AISearch, Instance
from syncd.core.errors import AuthHalt, SyncdError, TargetMissing
from syncd.core.model import IndexStatus
from syncd.targets.base import Advice, Usage

_MANAGE = "in the dashboard, give the token the permission"

FILES_FREE = 100_000
FILES_PAID = 1_000_000
FILES_PAID_HYBRID = 500_000
"""Files of one instance. Hybrid search, which is the default, halves them."""
INSTANCES_FREE, INSTANCES_PAID = 100, 5000
"""Instances of one account."""
NAMESPACES = 100
"""Namespaces of one account, on both plans."""
COUNTED = 10
"""Maximum number of namespaces whose instances are counted, each with one request."""

Counts = Callable[[], Awaitable[Mapping[IndexStatus, int] | None]]
"""Returns the number of items by status, None if it is unknown."""


async def readable_instance(api: AISearch) -> Instance:
    """Return the instance. Raises TargetMissing without one, AuthHalt that names the missing permission."""
    try:
        return await api.read_instance()
    except AuthHalt as refusal:
        if await _may_search(api):
            raise AuthHalt(f"the token has {RUN} but not {EDIT}: {_MANAGE} {EDIT}: {refusal}") from refusal
        raise AuthHalt(f"{refusal}; it needs {EDIT}, and for searches {RUN}") from refusal


async def _may_search(api: AISearch) -> bool:
    """Return whether one search passes the check of the token. Most other failures prove nothing."""
    try:
        await api.try_search()
    except TargetMissing:
        return True
    except SyncdError:
        return False
    return True


async def search_advice(api: AISearch) -> Advice:
    """Make one search of an instance that can be read. Return advice about the permissions from its answer."""
    try:
        await api.try_search()
    except AuthHalt as refusal:
        message = f"{RUN} is missing: the mirror works, but search and verify --query do not: {refusal}"
        return Advice(message, f"{_MANAGE} {RUN}, beside {EDIT}", "permissions")
    except SyncdError as failure:
        remedy = "search and verify --query fail like this; run syncd check again later"
        return Advice(f"one search failed: {failure}", remedy, "search")
    return Advice(f"the token reads the instance ({EDIT}) and searches it ({RUN})", None, "permissions")


async def instance_usage(api: AISearch, settings: Mapping[str, Any], counts: Counts, *, account: bool) -> list[Usage]:
    """Return the use of the instance, and that of the account if `account`, or if the instance is still to be made.

    settings: of an instance that is still to be made.
    """
    try:
        shown = (await api.read_instance()).settings
    except TargetMissing:
        return [_files(settings, 0), *await _account_usage(api, to_come=1)]
    found = await counts()
    files = _files(shown, None if found is None else sum(found.values()))
    return [files, *(await _account_usage(api, to_come=0) if account else ())]


def _files(settings: Mapping[str, Any], used: int | None) -> Usage:
    method = settings.get("index_method")
    if isinstance(method, Mapping) and method.get("keyword") is False:
        return Usage("files in the instance", used, FILES_FREE, FILES_PAID, per="file")
    return Usage("files in the instance, with hybrid search", used, FILES_FREE, FILES_PAID_HYBRID, per="file")


async def _account_usage(api: AISearch, to_come: int) -> Sequence[Usage]:
    names = await api.namespace_names()
    numbers = [await api.count_instances(name) for name in names[:COUNTED]]
    known = [number for number in numbers if number is not None]
    instances = sum(known) if len(known) == len(names) else None
    missing = 0 if api.namespace in names else to_come
    return (
        Usage("AI Search instances", instances, INSTANCES_FREE, INSTANCES_PAID, to_come, of_account=True),
        Usage("AI Search namespaces", len(names), NAMESPACES, NAMESPACES, missing, of_account=True),
    )
