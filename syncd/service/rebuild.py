"""A rebuild: a second target for the folder of a mirror, with other settings, which replaces the first target.

The second target is an ordinary mirror with its own state file, and ordinary passes fill it. It works beside a running
daemon, which keeps the first target in step. Both share the budget of requests, and the daemon goes first. The switch
is a change of the config: see state/succession.py.
"""

import asyncio
import math
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from syncd.config.checks import check_mirrors, fault_text, keys_at
from syncd.config.schema import Config, MirrorConfig, location
from syncd.config.target_sections import AISearchSection, TargetSection, VectorizeSection
from syncd.core.errors import ConfigError, TargetMissing
from syncd.core.keys import overlap
from syncd.core.model import HARMLESS, Problem
from syncd.core.names import Shard
from syncd.core.requests import Priority, requests_at
from syncd.service.build import NO_GRANTS, Grants, Session, add_mirror
from syncd.state.db import Meta, detect_damage, open_state_to_read, open_to_write
from syncd.state.directory import FILE_NAME, lock, when_free
from syncd.state.journal import Journal
from syncd.state.ownership import bind, reshard
from syncd.state.succession import REBUILD, rebuild_description, rebuild_directory, stored_binding
from syncd.sync import once
from syncd.sync.mirror import Mirror, OnProgress, PassOptions

ROUNDS = 5
"""Maximum passes of one command (our own limit). Another pass follows each pass that made actions."""
_NAMED = ("type", "create", "namespace", "instance", "index")
"""Keys of a target that `--set` does not change, because `--into` names the second target."""
Key = tuple[str, ...]
"""The names of a config key, from the table below the mirror to the key."""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The second target of a mirror.

    first: the section of the mirror in the config. second: the same section with the second target. changes: the keys
    below the mirror that differ, and their new values.
    """

    name: str
    first: MirrorConfig
    second: MirrorConfig
    changes: Mapping[Key, Any]

    def description(self, config: Config) -> dict[str, Any]:
        """Return the JSON object that is stored for the next command, and for `--drop-old`."""
        return {
            "changes": [[list(key), value] for key, value in self.changes.items()],
            "former": {
                "target": self.first.target.model_dump(mode="json", exclude_none=True),
                "key_prefix": self.first.key_prefix,
                "location": location(config.cloudflare, self.first),
            },
        }


# -- the second target


def second_target(session: Session, name: str, into: str | None, settings: Sequence[str]) -> Rebuild:
    """Return the rebuild that a command names, or the last one if it names none.

    into: the second target. settings: KEY=VALUE. Raises ConfigError.
    """
    first = session.config.mirrors[name]
    directory = rebuild_directory(session.config.state_dir, name)
    under_way = _stored_changes(rebuild_description(directory, name))
    stored = under_way or _stored_changes(Meta(session.db, name).get(REBUILD))
    if into is not None:
        changes = _target_changes(first, into)
        if not settings and changes.items() <= under_way.items():
            # A repeated command need not repeat the settings.
            changes = under_way
    elif stored:
        changes = stored
    else:
        raise ConfigError(f"mirror {name} has no rebuild; begin one with: syncd rebuild {name} --into TARGET")
    for setting in settings:
        key, value = _setting(first, setting)
        changes[key] = value
    return Rebuild(name, first, _changed(first, changes), changes)


def _stored_changes(description: object) -> dict[Key, Any]:
    """Return the changes of a stored description, none if there is none."""
    return {tuple(key): value for key, value in description["changes"]} if isinstance(description, dict) else {}


def _target_changes(first: MirrorConfig, into: str) -> dict[Key, Any]:
    """Return the keys that name a target: NAMESPACE/INSTANCE, INDEX, or the key prefix of a KV mirror."""
    match first.target:
        case AISearchSection() as target:
            namespace, _, instance = into.rpartition("/")
            changes: dict[Key, Any] = {("target", "instance"): instance}
            if namespace and namespace != target.namespace:
                changes[("target", "namespace")] = namespace
            return changes
        case VectorizeSection():
            return {("target", "index"): into}
        case _:
            return {("key_prefix",): into}


def _setting(first: MirrorConfig, text: str) -> tuple[Key, Any]:
    """Return the key and the value of KEY=VALUE. KEY is a key of the target, or of its settings. Raises ConfigError."""
    import tomllib

    name, equals, written = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"--set {text}: should be KEY=VALUE, such as --set embedding_model=@cf/baai/bge-m3")
    parts = tuple(name.split("."))
    fields = [field for field in type(first.target).model_fields if field not in _NAMED]
    if parts[0] not in fields and "settings" in fields:
        parts = ("settings", *parts)
    if parts[0] not in fields:
        raise ConfigError(f"--set {name}: the target has no such setting; it has: {', '.join(fields)}")
    value: Any = written
    with suppress(tomllib.TOMLDecodeError):
        value = tomllib.loads(f"value = {written}")["value"]
    if not isinstance(value, str | int | float | bool):
        raise ConfigError(f"--set {name}: takes a text, a number, true or false; write lists into the config")
    return ("target", *parts), value


def _changed(first: MirrorConfig, changes: Mapping[Key, Any]) -> MirrorConfig:
    """Return the section of a mirror with changed keys. Raises ConfigError for a value that the schema refuses."""
    target: dict[str, Any] = first.target.model_dump(exclude_none=True) | {"create": True}
    update: dict[str, Any] = {}
    for key, value in changes.items():
        table = target if key[0] == "target" else update
        for part in key[1:-1]:
            table = table.setdefault(part, {})
        table[key[-1]] = value
    try:
        section = type(first.target).model_validate(target)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = [str(part) for part in fault["loc"]]
        known = keys_at(["mirrors", "", "target", first.target.type, *where[:-1]])
        why = fault_text(where, fault["type"], fault["msg"], known=known)
        raise ConfigError(f"the second target cannot be used: {why}; change --into or --set") from None
    return first.model_copy(update={**update, "target": section})


def check_second(config: Config, rebuild: Rebuild) -> None:
    """Raise ConfigError if the second target is invalid, or is the target of this or another mirror."""
    for _, fault in check_mirrors(config.model_copy(update={"mirrors": {rebuild.name: rebuild.second}})):
        raise ConfigError(f"the second target cannot be used: {fault.removeprefix('.')}")
    for name, mirror in config.mirrors.items():
        prefixes = mirror.key_prefix, rebuild.second.key_prefix
        if not overlap(*prefixes) or mirror.target.spec != rebuild.second.target.spec:
            continue
        where = f"{mirror.target.spec}{f' with the prefix {prefixes[0]!r}' if any(prefixes) else ''}"
        if name != rebuild.name:
            raise ConfigError(f"mirrors.{name} has the target {where}; name another one with --into")
        if mirror.target.type == "kv" and not mirror.key_prefix:
            raise ConfigError(
                f"mirror {name} has no key_prefix, and each prefix lies within it; fill another namespace with a second"
                " mirror instead"
            )
        more = ", such that neither prefix begins with the other" if any(prefixes) else ""
        raise ConfigError(f"mirror {name} has the target {where} already; name another one with --into{more}")


async def check_settings(mirror: Mirror) -> None:
    """Raise ConfigError if the second target exists with other settings than the wanted ones."""
    if mirror.journal.count():
        # An earlier command has begun to fill it.
        return
    target = mirror.target
    with suppress(TargetMissing):
        await target.check()
        for advice in await target.advice():
            if advice.about == "settings" and advice.remedy:
                spec = mirror.settings.spec
                raise ConfigError(f"{spec} exists with other settings: {advice.message}; name a new one with --into")


@asynccontextmanager
async def _open(
    session: Session, name: str, section: MirrorConfig, *, directory: Path, place: str, grants: Grants
) -> AsyncIterator[Mirror]:
    """Yield a mirror with a state file of its own. Raises Locked if another command uses this file.

    section: the section of the mirror with the second or the old target. directory: of the state file. place: the
    location of the target.
    """
    async with AsyncExitStack() as stack:
        state_lock = stack.enter_context(lock(directory))
        db = await when_free(lambda: open_to_write(directory, "rebuild"))
        stack.callback(db.close)
        stack.enter_context(detect_damage(db, directory / FILE_NAME))
        bind(db, name, place, section.key_prefix)
        reshard(db, name, Shard.parse(section.shard))
        config = session.config.model_copy(update={"mirrors": {name: section}})
        yield add_mirror(replace(session, config=config, db=db, mirrors={}, lock=state_lock), name, grants)


@asynccontextmanager
async def open_second(session: Session, rebuild: Rebuild, *, force: bool) -> AsyncIterator[Mirror]:
    """Yield the mirror of the second target. Raises Locked if another command uses it.

    force: embed all files again if an earlier command named another model.
    """
    directory = rebuild_directory(session.config.state_dir, rebuild.name)
    place = location(session.config.cloudflare, rebuild.second)
    grants = Grants(reembed=force)
    async with _open(session, rebuild.name, rebuild.second, directory=directory, place=place, grants=grants) as mirror:
        mirror.meta.set(REBUILD, rebuild.description(session.config))
        yield mirror


async def fill(mirror: Mirror, on_progress: OnProgress, reports: list[once.Report], *, force: bool) -> None:
    """Make passes until the second target is in step and searchable. Append the report of each pass to `reports`."""
    with requests_at(Priority(bulk=True)):
        for _ in range(ROUNDS):
            report = once.Report()
            reports.append(report)
            await once.run(mirror, PassOptions(force=force), on_progress, report, bulk=True)
            await once.wait_until_indexed(mirror, report, math.inf)
            if report.error or not report.done:
                return


def with_rebuild_commands(text: str, name: str) -> str:
    """Return the message of a pass with `syncd rebuild` for `syncd reconcile`, which uses the first target only."""
    forced = f"syncd rebuild {name} --force"
    begin, separator, _ = text.partition(" See all of it: ")
    if separator:
        return f"{begin} If it is meant: {forced}"
    text = text.partition(" To make it this mirror's: ")[0]
    return text.replace(f"syncd reconcile --force {name}", forced).replace("syncd reconcile --force", forced)


# -- the comparison


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two targets. searchable: None if the target has no search. problems: of its files, by path."""

    spec: str
    entries: int
    searchable: int | None
    problems: Mapping[str, Problem]


def first_side(config: Config, rebuild: Rebuild) -> Side:
    """Return the present numbers of the first target. A daemon may have changed them during the fill."""
    db = open_state_to_read(config.state_dir)
    if db is None:
        raise ConfigError(f"the state file in {config.state_dir} is gone; run: syncd reconcile {rebuild.name}")
    with closing(db):
        return side_of(Journal(db, rebuild.name), rebuild.first)


def side_of(journal: Journal, section: MirrorConfig) -> Side:
    """Return the numbers of a target from its journal."""
    problems = {
        problem.key.removeprefix(section.key_prefix): problem
        for problem in journal.problems.all()
        if problem.kind not in HARMLESS
    }
    searchable = None if section.target.type == "kv" else journal.count_below("").get("completed", 0)
    return Side(section.target.spec, journal.count(), searchable, problems)


def new_problems(name: str, first: Side, second: Side) -> list[Problem]:
    """Return the problems of the second target that the first one does not have."""
    return [
        replace(problem, message=with_rebuild_commands(problem.message, name))
        for path, problem in second.problems.items()
        if path not in first.problems
    ]


# -- the switch


def is_configured(rebuild: Rebuild) -> bool:
    """Return whether the config names the second target with its settings already."""
    return not _missing(rebuild, rebuild.first)


def _missing(rebuild: Rebuild, section: MirrorConfig) -> list[Key]:
    """Return the changed keys that have another value in a section."""
    return [key for key in rebuild.changes if _value_at(section, key) != _value_at(rebuild.second, key)]


def _value_at(section: MirrorConfig, key: Key) -> object:
    value: object = section
    for part in key:
        value = getattr(value, part, None)
    return value


def is_in_effect(config: Config, name: str) -> bool:
    """Return whether the state file of a mirror describes the target that the config names."""
    section = config.mirrors[name]
    return stored_binding(config.state_dir, name) == [location(config.cloudflare, section), section.key_prefix]


def check_edit(rebuild: Rebuild, config: Config) -> None:
    """Raise ConfigError if the changed config still has another target, because a variable overrides the file."""
    for key in _missing(rebuild, config.mirrors[rebuild.name]):
        where = f"mirrors.{rebuild.name}.{'.'.join(key)}"
        raise ConfigError(f"{where} is set in the environment, too; change it there, then: syncd reload")


# -- the old target


def former_section(session: Session, name: str) -> tuple[MirrorConfig, str] | None:
    """Return the mirror's section with its former target, and the location of that target; None without one."""
    description = Meta(session.db, name).get(REBUILD)
    if not isinstance(description, dict):
        return None
    section, former = session.config.mirrors[name], description["former"]
    adapter: TypeAdapter[TargetSection] = TypeAdapter(TargetSection)
    target = adapter.validate_python(former["target"] | {"create": False})
    return section.model_copy(update={"target": target, "key_prefix": former["key_prefix"]}), former["location"]


@asynccontextmanager
async def open_old(session: Session, name: str) -> AsyncIterator[Mirror]:
    """Yield a mirror of an empty folder with the old target. A pass of this mirror deletes all its entries there.

    Raises ConfigError if there is no old target, or if a mirror uses it.
    """
    config = session.config
    former = former_section(session, name)
    if former is None:
        raise ConfigError(f"mirror {name} has no old target; a switch leaves one: syncd rebuild {name} --switch")
    if not is_in_effect(config, name):
        raise ConfigError(
            f"the switch of mirror {name} is not in effect yet; let the daemon read the config: syncd reload"
        )
    section, place = former
    for other, mirror in config.mirrors.items():
        shared = overlap(mirror.key_prefix, section.key_prefix) and mirror.owner == section.owner
        if shared and location(config.cloudflare, mirror) == place:
            raise ConfigError(f"{section.target.spec} is the target of mirrors.{other}; nothing was deleted")
    directory = rebuild_directory(config.state_dir, f"{name}.old")
    folder = directory / "empty"
    section = section.model_copy(update={"path": folder, "prune": "owned"})
    async with _open(session, name, section, directory=directory, place=place, grants=NO_GRANTS) as old:
        folder.mkdir(mode=0o700, exist_ok=True)
        yield old
    # Another command needs nothing of it: the marks show what is left.
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
