"""What is wrong with a configuration, said in one line that names the key and what would be right."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from syncd.cloudflare.kv_bulk import KEY_LIMIT
from syncd.config.secret_files import uploads
from syncd.config.sources import home
from syncd.names import LEAST_LENGTH, keeps
from syncd.paths import name_fault

if TYPE_CHECKING:
    from syncd.config.settings import Config, MirrorConfig

TARGET_TYPES = ("ai-search", "kv", "vectorize")
REMOVED = {"oversize": "it was removed; a file over max_file_size is reported as too_large"}
"""Keys of earlier versions, and what to say of them."""
MIRROR_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def faults(config: "Config", secret_file: Path | None = None) -> Iterator[tuple[str, str]]:
    """What no single key shows: names, roots that must not be mirrored, mirrors that would fight each other.

    secret_file: the config file, if a token stands in it.
    """
    secrets = [each for each in (config.cloudflare.api_token_file, secret_file) if each]
    for name, mirror in config.mirrors.items():
        if not MIRROR_NAME.fullmatch(name):
            yield name, ": a mirror's name is 1-64 of a-z 0-9 - _, beginning with a letter or digit"
        if too_much := _root_fault(mirror, config.state_dir, secrets):
            yield name, f".path: {mirror.path} {too_much}"
        if fault := name_fault(mirror.key_prefix + mirror.owner):
            yield name, f": key_prefix and owner: {fault.partition(';')[0]}; use printable characters"
        if fault := _short_names_fault(mirror) or _expiry_fault(mirror):
            yield name, fault
    yield from fights(config.mirrors)


def fights(mirrors: Mapping[str, "MirrorConfig"]) -> Iterator[tuple[str, str]]:
    """Mirrors that would delete or overwrite what another one writes. Owners that are not known yet differ."""
    for (one, first), (other, second) in combinations(mirrors.items(), 2):
        prefixes = first.key_prefix, second.key_prefix
        if first.target.spec != second.target.spec or not (
            prefixes[0].startswith(prefixes[1]) or prefixes[1].startswith(prefixes[0])
        ):
            continue
        if first.owner and first.owner == second.owner:
            yield one, f" and mirrors.{other} write as the same owner under the same keys; give one another key_prefix"
        elif "all" in (first.prune, second.prune):
            yield one, f' and mirrors.{other}: prune = "all" deletes what the other writes; give one another key_prefix'


def _expiry_fault(mirror: "MirrorConfig") -> str | None:
    """Why entries would expire between two passes, of which one has to write them again."""
    ttl, interval = getattr(mirror.target, "expiration_ttl", None), mirror.reconcile_interval
    if ttl is None or interval <= ttl / 2:
        return None
    return (
        f".target.expiration_ttl: should be at least twice reconcile_interval, {interval * 2:.0f} s, for a pass has to"
        f" write each entry again before it expires; raise it, or set reconcile_interval to {ttl / 2:.0f} at most"
    )


def _short_names_fault(mirror: "MirrorConfig") -> str | None:
    """Why names cannot be shortened; a Vectorize index holds no names, so there is nothing to shorten."""
    length = mirror.target.max_key_length
    if mirror.long_names == "reject" or mirror.target.type == "vectorize":
        return None
    if length < LEAST_LENGTH:
        return f'.target.max_key_length: should be at least {LEAST_LENGTH} with long_names = "shorten"'
    if not keeps(mirror.key_prefix, length, KEY_LIMIT if mirror.target.type == "kv" else None):
        return '.key_prefix: is too long for long_names = "shorten", which must keep it; shorten it'
    return None


def _root_fault(mirror: "MirrorConfig", state_dir: Path, secrets: Sequence[Path]) -> str | None:
    at_home = home()
    if _holds(mirror.path, Path("/")) or (at_home and _holds(mirror.path, at_home)):
        return "is too much to mirror; name a folder of documents inside it"
    if _holds(mirror.path, state_dir):
        return f"holds the state directory {state_dir}; move one of them"
    if any(uploads(mirror, secret) for secret in secrets):
        # Not the file's name, for a token may stand in its place.
        return "holds a file with the API token, which would be uploaded; move it out"
    return None


def _holds(root: Path, place: Path) -> bool:
    """True if `place` is `root` or lies in it, by whatever name: through symbolic links, bind mounts, other case."""
    # A loop of links stays what it is.
    real_root, real = (Path(os.path.realpath(path)) for path in (root, place))
    return real.is_relative_to(real_root) or any(_same(real_root, above) for above in (real, *real.parents))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake, as "key: what would be right"."""
    errors = error.errors(include_input=False, include_url=False, include_context=False)
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    # The type of a target stands in the place of its error, but not in the file.
    loc = first["loc"]
    *section, key = [
        str(part) for at, part in enumerate(loc) if part not in TARGET_TYPES or loc[at - 1 : at] != ("target",)
    ] or [""]
    where = ".".join((*section, key))
    if first["type"] == "extra_forbidden":
        return unknown_key(".".join(section), key, _field_names(model, list(map(str, first["loc"][:-1])))) + more
    if first["type"] == "missing" and key not in ("account_id", "mirrors"):
        return f"{where} is missing{more}"
    said = _remedy(where, first["type"]) or first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}{': ' if where else ''}{said.removeprefix(f'{key} ')}{more}"


def _remedy(where: str, kind: str) -> str | None:
    """What would be right, where we know better than the library."""
    if where == "mirrors" and kind in ("missing", "too_short"):
        return "there is no [mirrors.NAME] section; add one with path and target"
    if where.endswith("account_id"):
        return "should be the account's 32 lower-case hex digits, as in the dashboard's address"
    if kind.startswith("union_tag"):
        return 'its type should be "ai-search", "kv" or "vectorize"'
    if where.endswith("namespace_id"):
        return "should be the namespace's 32 lower-case hex digits; by its title: namespace_title"
    if where.endswith(".model"):
        return 'should be an embedding model of Workers AI, such as "@cf/baai/bge-base-en-v1.5"'
    if kind == "string_pattern_mismatch":
        return "should be 1-64 of a-z 0-9 - _"
    return "should be a path, in quotes" if kind.startswith("path") else None


def _models(union: object) -> list[type[BaseModel]]:
    return [each for each in getattr(union, "__args__", ()) if isinstance(each, type) and issubclass(each, BaseModel)]


def _types(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(getattr(model.model_fields["type"].annotation, "__args__", ()))


def unknown_key(section: str, key: str, known: Sequence[str]) -> str:
    """Say that a section has no such key, and which key may be meant."""
    close = difflib.get_close_matches(key, known, n=1)
    remedy = REMOVED.get(key) or (f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}")
    return f"unknown key {f'{section}.' if section else ''}{key}; {remedy}"


def _field_names(model: type[BaseModel], section: Sequence[str]) -> list[str]:
    """The keys that may stand in a section of the configuration."""
    parts = list(section)
    while parts:
        field = model.model_fields.get(parts.pop(0))
        inner = field.annotation if field else None
        if field and field.discriminator and parts:
            # The next part says which of several models it is.
            kind = parts.pop(0)
            inner = next((each for each in _models(inner) if kind in _types(each)), None)
        elif args := getattr(inner, "__args__", ()):
            # The next part is a mirror's own name, and may be that of a key.
            inner, parts = args[-1], parts[1:]
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
