"""The settings of an instance, compared with the config: the differences, and the cost of each change."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from syncd.cloudflare.ai_search import Instance
from syncd.targets.base import Advice

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
    """A setting of the config that the instance has otherwise. found: None if the service does not show it."""

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
    """Return one line about an instance with an external source: only newer ones take uploads, too (API error 7053)."""
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
    """Return whether the service shows a value of the type of the setting. Any other value counts as not shown."""
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
    """Return whether an element of a list has the values that the config names. A boost may name no direction."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(value == found.get(name) for name, value in wanted.items())
    return bool(wanted == found)


def metadata_advice(fields: Mapping[str, str], instance: Instance) -> Sequence[Advice]:
    """Name the metadata fields that the instance does not declare. fields: maps their names to data types."""
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
