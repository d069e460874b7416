"""Checks of the config beyond the schema, and the wording of its errors: one line that names the key and the remedy."""

import os
import re
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from syncd.config.file import CONFIG_VARIABLE, MCP_TOKEN_VARIABLE, PREFIX, KeyPlaces, home
from syncd.config.schema import Cloudflare, Config, MirrorConfig, Notify, Web, unknown_key
from syncd.config.target_sections import TARGET_SECTIONS
from syncd.core.errors import ConfigError, ConfigFaults
from syncd.core.keys import from_os, name_fault, normal, overlap
from syncd.core.names import LEAST_LENGTH, keeps_prefix
from syncd.core.problems import KV_KEY_BYTES
from syncd.core.rules import Rules

CREDENTIAL = "cloudflare_api_token"
"""The name of the systemd credential (LoadCredential)."""
MIRROR_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
TOO_MUCH = "is too much to mirror; name a folder of documents inside it"
_SERVICE_VARIABLE = re.compile(
    r"(^|_)(service_host|service_port(_[a-z0-9_]+)?|port(_[0-9]+_(tcp|udp|sctp)(_(proto|port|addr))?)?)$"
)
"""Matches the end of the names of the variables that Kubernetes sets for a service."""


# -- mirrors


def check_mirrors(config: Config, secret_files: Sequence[Path] = ()) -> Iterator[tuple[str, str]]:
    """Yield (mirror, fault) for invalid names, roots that must not be mirrored, and mirrors that conflict.

    secret_files: the files that contain a token, which no mirror may upload.
    """
    for name, mirror in config.mirrors.items():
        if not MIRROR_NAME.fullmatch(name):
            yield name, ": a mirror's name is 1-64 of a-z 0-9 - _, beginning with a letter or digit"
        if fault := _root_fault(mirror, config.state_dir, secret_files):
            yield name, f".path: {mirror.path} {fault}"
        for key, text in (("key_prefix", mirror.key_prefix), ("owner", mirror.owner)):
            if fault := name_fault(text):
                yield name, f".{key}: {fault.partition(';')[0].removeprefix('its name ')}; use printable characters"
        if fault := _short_names_fault(mirror) or _expiry_fault(mirror):
            yield name, fault
    yield from conflicts(config.mirrors)


def check_token_file(config: Config, file: Path) -> None:
    """Raise ConfigError if a mirror would upload a file with the token of the MCP server, and agents could read it."""
    for name, mirror in config.mirrors.items():
        if _uploads(mirror, file):
            raise ConfigError(f"--token-file lies in the folder of mirror {name}, which would upload it; move it out")


def no_mirror_fault(places: KeyPlaces) -> str:
    """Return the line for a config without a mirror."""
    return f"{places.of(('mirrors',)).where}: mirrors: there is no [mirrors.NAME] section; add one with path and target"


def mirror_fault(places: KeyPlaces, name: str, fault: str) -> str:
    """Return the line for a fault of `check_mirrors`."""
    key = re.match(r"\.([a-z_.]+):", fault)
    place = places.of(("mirrors", name, *(key[1].split(".") if key else ())))
    return f"{place.where}: mirrors.{name}{fault}"


def conflicts(mirrors: Mapping[str, MirrorConfig]) -> Iterator[tuple[str, str]]:
    """Yield (mirror, fault) for mirrors that would delete or overwrite each other's entries.

    An owner that is not known yet counts as different from all others.
    """
    for (one, first), (other, second) in combinations(mirrors.items(), 2):
        if first.target.spec != second.target.spec or not overlap(first.key_prefix, second.key_prefix):
            continue
        if first.owner and first.owner == second.owner:
            yield one, f" and mirrors.{other} write as the same owner under the same keys; change one key_prefix"
        elif "all" in (first.prune, second.prune):
            yield (
                one,
                f' and mirrors.{other}: prune = "all" deletes the entries that the other writes; change one key_prefix',
            )


def _expiry_fault(mirror: MirrorConfig) -> str | None:
    """Return the fault if entries would expire between two passes."""
    ttl, interval = getattr(mirror.target, "expiration_ttl", None), mirror.reconcile_interval
    if ttl is None or interval <= ttl / 2:
        return None
    return (
        f".target.expiration_ttl: should be at least twice reconcile_interval, {interval * 2:.0f} s, because a pass"
        f" must write each entry again before it expires; raise it, or set reconcile_interval to {ttl / 2:.0f} at most"
    )


def _short_names_fault(mirror: MirrorConfig) -> str | None:
    """Return the fault if names cannot be shortened. Vectorize stores no names, so it has none to shorten."""
    length = mirror.target.max_key_length
    if mirror.long_names == "reject" or mirror.target.type == "vectorize":
        return None
    if length < LEAST_LENGTH:
        return f'.target.max_key_length: should be at least {LEAST_LENGTH} with long_names = "shorten"'
    if not keeps_prefix(mirror.key_prefix, length, KV_KEY_BYTES if mirror.target.type == "kv" else None):
        return (
            '.key_prefix: is too long for long_names = "shorten", because every short name keeps it; shorten the prefix'
        )
    return None


def _root_fault(mirror: MirrorConfig, state_dir: Path, secrets: Sequence[Path]) -> str | None:
    if is_too_much(mirror.path):
        return TOO_MUCH
    if _contains(mirror.path, state_dir):
        return f"holds the state directory {state_dir}; move one of them"
    if any(_uploads(mirror, secret) for secret in secrets):
        # The message does not name the file, because a person may have written the token as its path.
        return "holds a file with the API token, which would be uploaded; move it out"
    return None


def is_too_much(root: Path) -> bool:
    """Return whether a folder contains the home directory of this user, or is the root directory."""
    at_home = home()
    return _contains(root, Path("/")) or (at_home is not None and _contains(root, at_home))


def _contains(root: Path, path: Path) -> bool:
    """Return whether `path` is `root` or lies inside it. Resolves symbolic links, bind mounts and case."""
    # `realpath` leaves a loop of links as it is; `Path.resolve` raises.
    real_root, real = Path(os.path.realpath(root)), Path(os.path.realpath(path))
    return real.is_relative_to(real_root) or any(_is_same_file(real_root, above) for above in (real, *real.parents))


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


# -- files that contain a secret


class Exposed(NamedTuple):
    """A file or directory that too many users may read or change. remedy: a shell command."""

    message: str
    remedy: str


def exposed_files(config: Config, config_file: Path, *, holds_secret: bool) -> list[Exposed]:
    """Return the token file, config file and state directory if other users have too many permissions on them.

    holds_secret: the config file contains a token.
    """
    found = []
    token_file = config.cloudflare.api_token_file
    if token_file and token_file.name == CREDENTIAL:
        token_file = None  # systemd sets the permissions of its own file
    for path, secret in ((token_file, True), (config_file, holds_secret)):
        mode = _mode(path, stat.S_ISREG)
        if path and mode & (0o077 if secret else stat.S_IWOTH):
            fault = "can be changed by others" if mode & 0o022 else "can be read by others"
            found.append(Exposed(f"{path} {fault}", f"chmod {'600' if secret else 'o-w'} {shlex.quote(str(path))}"))
    mode = _mode(config.state_dir, stat.S_ISDIR)
    # With the sticky bit, only the owner of a file can remove it.
    if mode & 0o022 and not mode & stat.S_ISVTX:
        remedy = f"chmod 700 {shlex.quote(str(config.state_dir))}"
        found.append(Exposed(f"{config.state_dir} can be changed by others", remedy))
    return found


def _mode(path: Path | None, is_kind: Callable[[int], bool]) -> int:
    """Return the permission bits; 0 for another kind of file, such as /dev/null, or if it cannot be examined."""
    try:
        mode = path.stat().st_mode if path else 0
    except OSError:
        return 0
    return stat.S_IMODE(mode) if is_kind(mode) else 0


def refuse_writable(path: Path, name: str) -> None:
    """Raise ConfigError if every user may write to a file that contains a secret. name: the key that the message names.

    Such a user could replace the token, and receive the folder in another account. `exposed_files` reports a file that
    others may only read.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
        raise ConfigError(f"{name}: everybody may write to the file; run chmod 600 on it")


def _uploads(mirror: MirrorConfig, secret: Path) -> bool:
    """Return whether a mirror would upload a file that contains a secret."""
    root, path = Path(os.path.realpath(mirror.path)), Path(os.path.realpath(secret))
    if not path.is_file() or not path.is_relative_to(root):
        return False
    rules = Rules(tuple(mirror.include), tuple(mirror.exclude))
    return rules.excluded_deep(normal(from_os(path.relative_to(root).as_posix()))) is None


# -- environment variables


def variable_faults(environ: Mapping[str, str]) -> list[str]:
    """Return a line for each SYNCD_* variable that names no key and may be a misspelt key.

    Raises ConfigFaults if one variable sets a key and another one sets a key below it, because they cannot be merged.
    """
    names = _variables(environ)
    faults = [fault for variable, name in names.items() if (fault := _unknown_variable(variable, name))]
    if conflicting := [variable for variable, name in names.items() if _is_below_value(name, names.values())]:
        below = [
            f"environment: {variable} lies under a key that has a value; unset one of them" for variable in conflicting
        ]
        raise ConfigFaults([*faults, *below])
    return faults


def _unknown_variable(variable: str, name: str) -> str | None:
    """Return the line for a variable that may be a misspelt key. None: it names a section, or resembles no key."""
    section = name.partition("__")[0]
    if section in Config.model_fields:
        return None
    if "__" in variable:
        meant = _meant(name)
    elif near := _nearest(section):
        meant = f"did you mean {PREFIX}{near.upper()}?"
    else:
        return None
    return f"environment variable {variable} names no config key; {meant}"


def _is_below_value(name: str, names: Iterable[str]) -> bool:
    """Return whether a name lies under another name of `names`, or under state_dir, the one key outside a section."""
    in_section = name.partition("__")[0] in Config.model_fields
    return in_section and any(name.startswith(f"{other}__") for other in (*names, "state_dir"))


def _meant(name: str) -> str:
    """Return the remedy for a variable whose section is unknown."""
    import difflib

    sections = Config.model_fields
    section, _, rest = name.partition("__")
    if close := difflib.get_close_matches(section, sections, n=1):
        return f"did you mean {PREFIX}{close[0].upper()}__{rest.upper()}?"
    return f"use {PREFIX}<SECTION>__<KEY>, with section one of {', '.join(sorted(sections))}"


def ignored_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the SYNCD_* variables that resemble no key, such as Kubernetes sets for a service named syncd."""
    names = _variables(environ).items()
    return [variable for variable, name in names if "__" not in variable and name not in Config.model_fields]


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return {variable: name without prefix, in lower case} for the variables that may name a key."""
    return {
        variable: variable.removeprefix(PREFIX).lower()
        for variable in sorted(environ)
        if variable.startswith(PREFIX)
        and variable not in (CONFIG_VARIABLE, MCP_TOKEN_VARIABLE)
        and not variable.startswith("SYNCD_COMPLETE")
    }


def _nearest(name: str) -> str | None:
    """Return the key that a name without "__" probably means, None if it resembles no key."""
    if _SERVICE_VARIABLE.search(name):
        return None
    start, _, _ = name.partition("_")
    if start in ("mirrors", "defaults") and name.endswith(tuple(f"_{key}" for key in MirrorConfig.model_fields)):
        return "mirrors__<NAME>__<KEY>" if start == "mirrors" else "defaults__<KEY>"
    sections: dict[str, type[BaseModel]] = {
        "cloudflare": Cloudflare,
        "web": Web,
        "notify": Notify,
        "defaults": MirrorConfig,
    }
    known = {section: section for section in Config.model_fields}
    for section, model in sections.items():
        for key in model.model_fields:
            known[f"{section}_{key}"] = known[key] = f"{section}__{key}"
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return known[close[0]] if close else None


# -- the wording of errors


def describe(error: ValidationError, places: KeyPlaces) -> list[str]:
    """Return a line for each error: its place, the key and the remedy. Unknown keys come first."""
    found: dict[str, tuple[bool, int]] = {}
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        loc, unknown = fault["loc"], fault["type"] == "extra_forbidden"
        # pydantic adds the type of a target to the path of its keys.
        key = tuple(
            str(part) for at, part in enumerate(loc) if part not in TARGET_SECTIONS or loc[at - 1 : at] != ("target",)
        )
        place = places.of(key)
        text = fault_text(place.key, fault["type"], fault["msg"], known=keys_at([str(part) for part in loc[:-1]]))
        # A wrong value of [defaults] is an error of every mirror, and is reported once.
        found.setdefault(f"{place.where}: {text}", (not unknown, place.line))
    return sorted(found, key=found.__getitem__)


def fault_text(key: Sequence[str], kind: str, message: str, *, known: Sequence[str]) -> str:
    """Return the key of an error and its remedy. kind, message: of the pydantic error. known: the keys of the table."""
    *section, name = key or [""]
    where = ".".join(key)
    if kind == "extra_forbidden":
        return unknown_key(".".join(section), name, known)
    if kind == "missing" and name != "account_id":
        return f"{where} is missing"
    text = _remedy(where, kind) or re.sub("^(Value error,|Input|String) ", "", message)
    return f"{where}{': ' if where else ''}{text.removeprefix(f'{name} ')}"


_REMEDIES = (
    ("model_", "", "should be a table"),
    ("list_type", "", 'should be a valid list, such as ["a", "b"]'),
    ("union_tag", "", 'its type should be "ai-search", "kv" or "vectorize"'),
    ("", "account_id", "should be the account's 32 lower-case hex digits, as in the dashboard's address"),
    ("", "namespace_id", "should be the namespace's 32 lower-case hex digits; by its title: namespace_title"),
    ("", ".model", 'should be an embedding model of Workers AI, such as "@cf/baai/bge-base-en-v1.5"'),
    ("string_pattern_mismatch", "instance", "should be 1-64 of a-z 0-9 - _"),
    ("string_pattern_mismatch", "", "should be 1-64 of A-Z a-z 0-9 - _"),
    ("path", "", "should be a path, in quotes"),
    ("dict_type", "mirrors", "should be sections with the headings [mirrors.NAME]"),
    ("dict_type", "", 'should be a table, such as { a = "b" }, which in a variable is {"a": "b"}'),
    ("bool_", "", "should be true or false"),
    ("int_", "", "should be a whole number"),
    ("float_", "", "should be a number"),
    ("string_type", "", "should be a text, in quotes"),
)
"""(the beginning of a pydantic error type, the end of a key, the remedy), where the pydantic message is unclear."""


def _remedy(where: str, kind: str) -> str | None:
    """Return the remedy of _REMEDIES for an error, None if it has none."""
    found = (text for begin, end, text in _REMEDIES if kind.startswith(begin) and where.endswith(end))
    text = next(found, None)
    return f"{text}, [{where}]" if text and kind.startswith("model_") else text


def keys_at(section: Sequence[str]) -> list[str]:
    """Return the known keys of a section of the config."""
    model: type[BaseModel] = Config
    parts = list(section)
    while parts:
        field = model.model_fields.get(parts.pop(0))
        inner = field.annotation if field else None
        if field and field.discriminator and parts:
            # The next part is the type of a target.
            inner = TARGET_SECTIONS.get(parts.pop(0))
        while args := get_args(inner):
            # The next part is the name of a mirror, which may equal a key, or a number of a list.
            parts = parts[1:] if get_origin(inner) in (dict, list) else parts
            inner = args[1] if get_origin(inner) is dict else args[0]
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
