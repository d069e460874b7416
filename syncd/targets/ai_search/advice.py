"""Facts about an instance for `syncd check`: permissions, the use of the ceilings of the plan, settings that differ.

The documentation names two permissions: to read and write an instance (Edit), and to search it (Run). No request shows
which permissions a token has ("AI Search: REST API, create an API token"), and the answer to a search without Run is
unknown. If the instance can be read and a search is refused, syncd concludes that Run is missing.

Source of the ceilings: "AI Search: limits and pricing", October 2026. Cloudflare raises them for an account on request,
and no request shows the plan of an account. So syncd only reports them, and refuses nothing because of them.
"""

import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from syncd.cloudflare.ai_search import EDIT, RUN, AISearch, Instance
from syncd.core.errors import AuthHalt, SyncdError, TargetMissing
from syncd.core.model import IndexStatus
from syncd.targets.base import Advice, Usage

_MANAGE = "in the dashboard, give the token the permission"

FILES_FREE = 100_000
FILES_PAID = 1_000_000
FILES_PAID_HYBRID = 500_000
"""Maximum files of one instance. With hybrid search, which is the default, the paid limit is half."""
INSTANCES_FREE, INSTANCES_PAID = 100, 5000
"""Maximum instances of one account."""
NAMESPACES = 100
"""Maximum namespaces of one account, on both plans."""
MAX_COUNTED = 10
"""Maximum number of namespaces whose instances are counted, each with one request."""

Counts = Callable[[], Awaitable[Mapping[IndexStatus, int] | None]]
"""Returns the number of items by status, None if it is unknown."""


# -- permissions


async def readable_instance(api: AISearch) -> Instance:
    """Return the instance. Raises TargetMissing if there is none, and AuthHalt, which names the missing permission."""
    try:
        return await api.read_instance()
    except AuthHalt as refusal:
        if await _may_search(api):
            raise AuthHalt(f"the token has {RUN} but not {EDIT}: {_MANAGE} {EDIT}: {refusal}") from refusal
        raise AuthHalt(f"{refusal}; it needs {EDIT}, and for searches {RUN}") from refusal


async def _may_search(api: AISearch) -> bool:
    """Return whether the token may search, by one search. False for a failure that proves nothing."""
    try:
        await api.try_search()
    except TargetMissing:
        return True
    except SyncdError:
        return False
    return True


async def search_advice(api: AISearch) -> Advice:
    """Make one search of an instance that the token can read. Return advice by its answer."""
    try:
        await api.try_search()
    except AuthHalt as refusal:
        message = f"{RUN} is missing: the mirror works, but search and verify --query do not: {refusal}"
        return Advice(message, f"{_MANAGE} {RUN}, beside {EDIT}", "permissions")
    except SyncdError as failure:
        remedy = "search and verify --query fail like this; run syncd check again later"
        return Advice(f"one search failed: {failure}", remedy, "search")
    return Advice(f"the token reads the instance ({EDIT}) and searches it ({RUN})", None, "permissions")


# -- ceilings


async def instance_usage(api: AISearch, settings: Mapping[str, Any], counts: Counts, *, account: bool) -> list[Usage]:
    """Return the use of the instance. With `account`, or if the instance is missing, also return that of the account.

    settings: the configured settings, for a missing instance. counts: returns the items of the instance by status.
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
    numbers = [await api.count_instances(name) for name in names[:MAX_COUNTED]]
    known = [number for number in numbers if number is not None]
    instances = sum(known) if len(known) == len(names) else None
    missing = 0 if api.namespace in names else to_come
    return (
        Usage("AI Search instances", instances, INSTANCES_FREE, INSTANCES_PAID, to_come, of_account=True),
        Usage("AI Search namespaces", len(names), NAMESPACES, NAMESPACES, missing, of_account=True),
    )


# -- settings: the differences from the config, and the cost of each change

Change = Literal["free", "reindex", "replace", "never"]
"""The effect of a change of a setting.

free: it applies to later searches. reindex: the service indexes all items again. replace: an update replaces the whole
object that contains the setting. never: only a new instance can have another value.
"""

_CHANGES: Mapping[str, Change] = {
    "embedding_model": "never",
    "index_method": "reindex",
    "indexing_options": "reindex",
    "chunk": "reindex",
    "chunk_size": "reindex",
    "chunk_overlap": "reindex",
    "public_endpoint_params": "replace",
}
"""The effect of a change by the name of the setting; all other settings are free (AI Search: instance settings).

The update of the API takes embedding_model, but the documentation calls the model permanent.
"""
_DEFAULTS: Mapping[str, Any] = {
    "indexing_options.keyword_tokenizer": "porter",
    "indexing_options.use_ocr": False,
    "retrieval_options.keyword_match_mode": "and",
    "fusion_method": "rrf",
    "max_num_results": 10,
    "score_threshold": 0.4,
    "reranking": False,
    "rewrite_query": False,
    "cache": True,
    "cache_threshold": "close_enough",
    "cache_ttl": 172800,
    "public_endpoint_params.enabled": False,
    "public_endpoint_params.default_domain_enabled": True,
}
"""Documented defaults (AI Search: create an instance). A setting that the service does not show has its default."""
_TEXTS: Mapping[Change, str] = {
    "free": "it can be changed in place, and nothing is indexed again",
    "reindex": "it can be changed in place, but then the service indexes all items again",
    "replace": "it can be changed in place, but an update replaces the whole object",
    "never": "it can never be changed",
}
_WRANGLER = (
    *("ai_search_model", "chunk_size", "chunk_overlap", "max_num_results"),
    *("reranking", "reranking_model", "cache", "score_threshold"),
)
"""Settings that `wrangler ai-search update` changes (wrangler 4.164)."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A setting whose value differs from the config. found: its value in the instance, None if it is not shown."""

    name: str
    wanted: Any
    found: Any
    change: Change


def find_drift(wanted: Mapping[str, Any], instance: Instance) -> Sequence[Drift]:
    """Return the settings of the config that the instance does not have, or that the service does not show.

    Settings that the config does not name are not compared.
    """
    shown = _flat(instance.settings)
    found = []
    for name, value in _flat(wanted).items():
        present = shown.get(name)
        if not _same_type(value, present):
            present = _DEFAULTS.get(name)
        if not _equal(value, present):
            found.append(Drift(name, value, present, _CHANGES.get(name.partition(".")[0], "free")))
    return found


def settings_advice(wanted: Mapping[str, Any], instance: Instance) -> Sequence[Advice]:
    """Return one line for each setting that differs, and one line for the settings that cannot be compared."""
    names = _flat(wanted)
    drift = find_drift(wanted, instance)
    hidden = [difference.name for difference in drift if difference.found is None]
    different = [difference for difference in drift if difference.found is not None]
    advice = [*_source_advice(instance)]
    advice += [Advice(_message(difference), _remedy(difference, instance), "settings") for difference in different]
    if same := len(names) - len(drift):
        advice.append(Advice(f"as in the config: {same} of {len(names)}", None, "settings"))
    if hidden:
        message = f"the service does not show {', '.join(hidden)}, so they are not compared"
        advice.append(Advice(message, None, "settings"))
    return advice


def _source_advice(instance: Instance) -> Sequence[Advice]:
    """Return a line about an instance with an external source. Only newer ones accept uploads (API error 7053)."""
    if instance.type is None:
        return ()
    shown = _written(instance.type)
    message = f"type is {shown} in the instance, but a mirror uses built-in storage; {_TEXTS['never']}"
    remedy = "nothing, if it takes uploads, too, as instances made since 2026-04-16 do. Else name another"
    return (Advice(message, f"{remedy} instance in the config, which create = true makes", "settings"),)


def _message(drift: Drift) -> str:
    found, wanted = _written(drift.found), _written(drift.wanted)
    return f"{drift.name} is {found} in the instance and {wanted} in the config; {_TEXTS[drift.change]}"


def _remedy(drift: Drift, instance: Instance) -> str:
    name, _, inner = drift.name.partition(".")
    keep = f"set it to {_written(drift.found)} in the config"
    if drift.change == "never":
        return f"{keep}, or name another instance there, which create = true makes with this setting"
    change = f"change it in the dashboard (AI Search, {instance.id}, Settings)"
    if name in _WRANGLER and instance.namespace in (None, "default"):
        change = f"run: npx wrangler ai-search update {instance.id} {_option(name, drift.wanted)}"
    elif inner and drift.change == "replace":
        change += f"; a PUT by the API has to contain all of {name}"
    return f"{keep}, or {change}"


def _option(name: str, value: object) -> str:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option} {value}"


def _written(value: object) -> str:
    """Return a value as in the config. A list of objects is shown as JSON."""
    return json.dumps(value, ensure_ascii=False)


def _flat(values: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """Return the values of nested objects by their path, with dots."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{start}{name}.")
        else:
            flat[start + name] = value
    return flat


def _same_type(wanted: Any, found: Any) -> bool:
    """Return whether both values have the same type. A value of another type counts as not shown."""
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return isinstance(found, int | float) and not isinstance(found, bool)
    return type(wanted) is type(found)


def _equal(wanted: Any, found: Any) -> bool:
    """Return whether two values of a setting mean the same. The order of a list does not count."""
    if isinstance(wanted, float) and isinstance(found, int | float):
        # The service may keep the number with fewer digits.
        return math.isclose(wanted, found, rel_tol=1e-6)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(any(_covers(one, other) for other in found) for one in wanted)
    return bool(wanted == found)


def _covers(wanted: Any, found: Any) -> bool:
    """Return whether an element of a list has all values of an element in the config, which may omit values."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(value == found.get(name) for name, value in wanted.items())
    return bool(wanted == found)


def metadata_advice(fields: Mapping[str, str], instance: Instance) -> Sequence[Advice]:
    """Return a line with the metadata fields that the instance does not declare. fields: {name: data type}."""
    declared = {name.lower() for name in instance.custom_metadata}
    if not (missing := [name for name in fields if name not in declared]):
        return ()
    message = f"it does not declare {', '.join(missing)}: kept with the items, but searches cannot filter by them"
    types = ", ".join(f"{name} {fields[name]}" for name in missing)
    remedy = (
        f"nothing, if that is fine. Otherwise declare them ({types}), which indexes all items again, or let"
        " create = true make another instance"
    )
    return (Advice(message, remedy),)
