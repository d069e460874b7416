"""The composition root: builds mirrors from the config. The only module that knows every kind of target.

Each kind of target is imported only when a mirror uses it.
"""

import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Budget, Gate
from syncd.cloudflare.transport import Transport
from syncd.config.checks import conflicts
from syncd.config.schema import Config, MirrorConfig, location, mirror_config
from syncd.config.sources import login
from syncd.config.target_sections import AISearchSection, KVSection, VectorizeSection
from syncd.core.errors import ConfigError, is_shortage
from syncd.core.model import Item
from syncd.core.names import NO_FORMS, Forms, Shard
from syncd.core.plain_text import add_secrets
from syncd.core.plan import Policy, removal_log_entry
from syncd.core.problems import Limits
from syncd.core.requests import parse_quota
from syncd.core.rules import Rules
from syncd.local.walk import Tree
from syncd.state import ownership
from syncd.state.caches import Embeddings, StatCache, StoredAnswers, keep_kinds_that_worked, kinds_that_worked
from syncd.state.db import (
    Age,
    Meta,
    OnDamage,
    detect_damage,
    open_copy,
    open_state_to_read,
    open_to_write,
)
from syncd.state.deletions import Absences, DeleteLog
from syncd.state.directory import FILE_NAME, Lock, directory_of, lock, when_free
from syncd.state.history import History, Passes
from syncd.state.journal import Journal
from syncd.state.ownership import Claims, SupersededEntries, bind, reshard
from syncd.state.queue import Queue
from syncd.state.spent import SpentRequests
from syncd.state.succession import adopt_rebuild
from syncd.sync.mirror import Mirror, Settings
from syncd.targets.base import LogRemoval, MirrorRecords, OpenRemovalLog, Removed, Target, no_removal_log

LONG_KEY_LENGTH = 1024
"""Maximum characters of a full key in an entry's metadata. Our own limit; AI Search allows 10 KiB of metadata."""
FORMS = "forms"
"""The name of a stored value: the patterns of `convert` and `as_text` of the last session."""


@dataclass(frozen=True, slots=True)
class Grants:
    """Permissions given on the command line for one run.

    takeover: adopt entries of other owners. reembed: embed all files again.
    """

    takeover: bool = False
    reembed: bool = False


NO_GRANTS = Grants()


@dataclass(frozen=True, slots=True)
class Session:
    """The open resources of one command. `open_session` closes them."""

    config: Config
    transport: Transport
    db: sqlite3.Connection
    mirrors: dict[str, Mirror]
    lock: Lock | None

    def keep_known_credentials(self) -> None:
        """Store for which kinds of request the present credentials have worked."""
        transport = self.transport
        keep_kinds_that_worked(self.db, transport.login.credentials.fingerprint(), transport.refusal_retry.known())


@asynccontextmanager
async def open_session(
    config: Config,
    names: Sequence[str] = (),
    *,
    grants: Grants = NO_GRANTS,
    read_only: bool = False,
    daemon: bool = False,
    on_damage: OnDamage = "refuse",
) -> AsyncIterator[Session]:
    """Build the named mirrors, or all mirrors if none is named, and yield them.

    read_only: use a copy of the state file and take no lock, for commands that change nothing.
    daemon: record in the lock that the daemon holds it.
    on_damage: see `open_to_write`.
    Raises ConfigError (no token, unknown mirror), Locked or StateHalt.
    """
    for name in names:
        mirror_config(config, name)
    async with AsyncExitStack() as stack:
        state_lock = None if read_only else stack.enter_context(lock(config.state_dir, daemon=daemon))
        db = await when_free(lambda: open_to_write(config.state_dir, None if read_only else on_damage))
        stack.callback(db.close)
        stack.push_async_callback(end_conversions)
        stack.enter_context(detect_damage(db, config.state_dir / FILE_NAME))
        config = _with_owners(config, db)
        transport = await stack.enter_async_context(open_transport(config))
        mirrors: dict[str, Mirror] = {}
        session = Session(config, transport, db, mirrors, state_lock)
        if not read_only:
            # Other commands try a refused request once only, so that a person has the answer at once.
            transport.refusal_retry.add_known(kinds_that_worked(db, transport.login.credentials.fingerprint()))
            stack.callback(session.keep_known_credentials)
        for name in names or config.mirrors:
            section = config.mirrors[name]
            binding = location(config.cloudflare, section), section.key_prefix
            adopt_rebuild(db, config.state_dir, name, binding, keep=read_only)
            bind(db, name, *binding)
            reshard(db, name, Shard.parse(section.shard))
            mirrors[name] = add_mirror(session, name, grants)
        yield session


@asynccontextmanager
async def open_target(transport: Transport, config: Config, name: str) -> AsyncIterator[Target]:
    """Build the target of one mirror for a search, and yield it.

    It reads the state file itself. `open_session` makes a copy, which takes longer for a large state.
    """
    mirror_config(config, name)
    with closing(open_state_to_read(config.state_dir) or open_copy(config.state_dir)) as db:
        yield build_target(transport, db, name, _with_owner(config, name, db), NO_GRANTS)


async def end_conversions() -> None:
    """End the processes that convert files, so that no thread waits for them."""
    if loaded := sys.modules.get("syncd.text.converter"):
        await asyncio.to_thread(loaded.converter.close)


def add_mirror(session: Session, name: str, grants: Grants) -> Mirror:
    """Build a mirror of a session."""
    section = session.config.mirrors[name]
    open_log = removal_log(DeleteLog(session.config.state_dir), name, section.target.spec)
    target = build_target(session.transport, session.db, name, section, grants, open_log)
    settings = build_settings(section, grants, name)
    return build_mirror(session.db, name, section.path, target, settings, log_dir=session.config.state_dir)


def _with_owners(config: Config, db: sqlite3.Connection) -> Config:
    """Add the default owners and store them. Raises ConfigError if two mirrors would conflict."""
    mirrors = {name: _with_owner(config, name, db) for name in config.mirrors}
    for name, section in config.mirrors.items():
        if not section.owner:
            ownership.remember(mirrors[name].owner, section.path, Meta(db, name))
    for name, why in conflicts(mirrors):
        raise ConfigError(f"mirrors.{name}{why}")
    return config.model_copy(update={"mirrors": mirrors})


def _with_owner(config: Config, name: str, db: sqlite3.Connection) -> MirrorConfig:
    """Return the section of a mirror with its owner, which may be the default."""
    section = config.mirrors[name]
    owner = section.owner or ownership.known_or_derived(name, section.path, Meta(db, name), config.state_dir)
    return section.model_copy(update={"owner": owner})


def stored_answers(config: Config, name: str, db: sqlite3.Connection) -> StoredAnswers:
    """Return the stored answers of `syncd check --probe` about the target of one mirror."""
    return StoredAnswers(db, location(config.cloudflare, mirror_config(config, name)))


# -- the transport


@asynccontextmanager
async def open_transport(config: Config) -> AsyncIterator[Transport]:
    """Yield the transport of this process, and close it.

    The requests of the last minutes are counted in the state directory, if there is one that can be written.
    Raises ConfigError if a token, proxy or certificate cannot be used.
    """
    section, budget = config.cloudflare, None
    async with AsyncExitStack() as stack:
        if quota := parse_quota(section.quota):
            spent = SpentRequests(config.state_dir, quota.window_s)
            stack.callback(spent.close)
            budget = Budget(quota, spent)
        try:
            transport = Transport(
                section.base_url,
                section.account_id,
                _credentials(config),
                Gate(section.tpslimit, section.transfers, budget=budget),
                timeout=section.timeout,
                retry_for=section.retry_for,
                login=lambda: _credentials(config),
            )
        except ValueError as error:
            raise ConfigError(f"cloudflare: {error}") from None
        except OSError as error:
            if is_shortage(error):
                raise
            why = f"the certificates named by SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {error.strerror or error}"
            raise ConfigError(f"cloudflare: {why}") from None
        yield await stack.enter_async_context(transport)


def _credentials(config: Config) -> Credentials:
    """Read the token or the key, and redact it in all output. Raises ConfigError if it cannot be used."""
    secret, email = login(config)
    add_secrets([secret])
    try:
        return Credentials.global_key(email, secret) if email else Credentials.bearer(secret)
    except ValueError as error:
        raise ConfigError(f"cloudflare: {error}") from None


# -- mirrors


def build_mirror(
    db: sqlite3.Connection,
    name: str,
    root: Path,
    target: Target,
    settings: Settings,
    *,
    log_dir: Path | None = None,
) -> Mirror:
    """Build a mirror on an open state file. log_dir: where the log of deletes is; default: beside the state file."""
    prefix = settings.policy.prefix
    age = Age(db)
    tree = Tree(root, settings.rules, target.limits, prefix)
    tree.ignores.settle, tree.ignores.empty_settle = settings.settle, settings.settle_max
    files, meta = StatCache(db, name), Meta(db, name)
    if (patterns := target.limits.forms.patterns) != (meta.get(FORMS) or NO_FORMS.patterns):
        # The stored checksums belong to the earlier forms.
        files.invalidate()
        meta.set(FORMS, patterns)
    mirror = Mirror(
        name=name,
        tree=tree,
        target=target,
        settings=settings,
        db=db,
        journal=Journal(db, name),
        queue=Queue(db, name, settings.settle, settings.settle_max),
        files=files,
        meta=meta,
        superseded=SupersededEntries(db, name, settings.policy.owner),
        history=History(db, name),
        passes=Passes(db, name),
        deletes=DeleteLog(log_dir or directory_of(db)),
        absences=Absences(db, name),
        age=age.now,
        keep_age=age.keep,
        claims=Claims(db, name),
    )
    if target.limits.forms:
        # Imported late, because few folders contain documents.
        from syncd.text.converter import converted

        mirror.convert = converted
    return mirror


def removal_log(deletes: DeleteLog, mirror: str, target: str) -> OpenRemovalLog:
    """Return the function that records the deletes that a target makes on its own."""

    @contextmanager
    def open_log(removed: Sequence[Removed]) -> Iterator[LogRemoval]:
        lines = {entry: removal_log_entry(entry.key, entry.ref, entry.kind, entry.why) for entry in removed}
        place = {"mirror": mirror, "target": target}
        with deletes.writing([place | line for line in lines.values()]) as writer:
            yield lambda entry: writer.write(place | lines[entry], time.time())

    return open_log


def build_settings(section: MirrorConfig, grants: Grants = NO_GRANTS, name: str = "") -> Settings:
    """Return the settings of a mirror, from its section and the command line."""
    shard = Shard.parse(section.shard)
    return Settings(
        policy=Policy(section.owner, section.key_prefix, section.prune, grants.takeover, shard, name),
        rules=_rules(section),
        max_delete=section.max_delete,
        settle=section.settle,
        settle_max=section.settle_max,
        delete_after=section.delete_after,
        create=section.target.create,
        audit_interval=section.audit_interval,
        spec=section.target.spec,
    )


def build_tree(section: MirrorConfig) -> Tree:
    """Return the folder of a mirror, without a state file."""
    return Tree(section.path, _rules(section), build_limits(section), section.key_prefix)


def _rules(section: MirrorConfig) -> Rules:
    return Rules(tuple(section.include), tuple(section.exclude), section.gitignore, section.links == "inside")


# -- targets


def build_limits(section: MirrorConfig) -> Limits:
    """Return the limits of a mirror's target."""
    limits = _target_limits(section)
    if not (section.convert or section.as_text):
        return limits
    from syncd.text.converter import converter_name

    patterns, renames = (tuple(section.convert), tuple(section.as_text)), section.target.type != "vectorize"
    forms = Forms(*patterns, section.key_prefix, converter_name(), renames)
    # The mark of a converted file is longer.
    room = limits.long_key_bytes and limits.long_key_bytes - len(f"+{forms.converter}")
    return replace(limits, forms=forms, long_key_bytes=room)


def _target_limits(section: MirrorConfig) -> Limits:
    """Return the limits of a target for files that are sent as they are."""
    configured = section.target.max_key_length, section.target.max_file_size
    shorten = section.long_names == "shorten"
    if section.target.type == "vectorize":
        from syncd.targets.vectorize.target import limits as vectorize_limits

        limits = vectorize_limits(*configured)
        # Vector ids are hashes, so no name has to be shortened.
        return replace(limits, max_key_length=LONG_KEY_LENGTH) if shorten else limits
    if section.target.type == "kv":
        from syncd.targets.kv.target import limits as kv_limits
        from syncd.targets.kv.target import long_key_bytes

        limits, room = kv_limits(*configured), long_key_bytes(section.owner, section.key_prefix)
        limits = replace(limits, renew_s=_renew_s(section.target.expiration_ttl, section.reconcile_interval))
    else:
        from syncd.targets.ai_search.target import limits as ai_search_limits

        limits, room = ai_search_limits(*configured), None
    return replace(limits, long_key_length=LONG_KEY_LENGTH, long_key_bytes=room) if shorten else limits


def _renew_s(ttl: float | None, interval: float) -> float | None:
    """Return the age at which an entry is written again: half its TTL, or less if the next pass could be too late."""
    return None if ttl is None else min(ttl / 2, max(0.0, ttl * 3 / 4 - interval))


def build_target(
    transport: Transport,
    db: sqlite3.Connection,
    name: str,
    section: MirrorConfig,
    grants: Grants,
    open_log: OpenRemovalLog = no_removal_log,
) -> Target:
    """Return the target of a mirror. open_log: opens the log for entries that the target deletes outside of a plan."""
    records = MirrorRecords(Journal(db, name).keys, lambda: _walked_keys(section), open_log)
    match section.target:
        case VectorizeSection() as target:
            return _vectorize(transport, section, target, grants, records, Embeddings(db, name))
        case KVSection() as target:
            return _kv(transport, section, target, records)
        case AISearchSection() as target:
            learned = StoredAnswers(db, location(transport, section))
            return _ai_search(transport, section, target, grants, records, learned)


def _walked_keys(section: MirrorConfig) -> Iterator[str]:
    return (item.key for item in build_tree(section).walk("") if isinstance(item, Item))


def _ai_search(
    transport: Transport,
    section: MirrorConfig,
    target: AISearchSection,
    grants: Grants,
    records: MirrorRecords,
    learned: StoredAnswers,
) -> Target:
    from syncd.cloudflare.ai_search import AISearch
    from syncd.targets.ai_search.items import ItemWritePolicy
    from syncd.targets.ai_search.target import AISearchTarget

    # pydantic builds the model of this section again to dump it, and most mirrors have no settings.
    settings = target.settings.model_dump(exclude_none=True) if target.settings.model_fields_set else {}
    return AISearchTarget(
        AISearch(transport, target.namespace, target.instance),
        ItemWritePolicy(section.owner, section.key_prefix, grants.takeover, target.metadata, settings),
        build_limits(section),
        records=records,
        # Six more than may be in flight, so that the next files are read while their requests wait.
        concurrency=transport.gate.transfers + 6,
        shards=Shard.parse(section.shard).count,
        learned=learned,
    )


def _kv(transport: Transport, section: MirrorConfig, target: KVSection, records: MirrorRecords) -> Target:
    from syncd.cloudflare.kv import KV
    from syncd.targets.kv.target import KVTarget, NamespaceChoice
    from syncd.targets.kv.writing import ValueWritePolicy

    choice = NamespaceChoice(target.namespace_id, target.namespace_title, target.jurisdiction)
    policy = ValueWritePolicy(section.owner, section.key_prefix, fields=target.metadata)
    policy = replace(policy, expiration_ttl=target.expiration_ttl, stale_ttl=target.stale_ttl)
    return KVTarget(KV(transport), choice, policy, build_limits(section), records=records)


def _vectorize(
    transport: Transport,
    section: MirrorConfig,
    target: VectorizeSection,
    grants: Grants,
    records: MirrorRecords,
    cache: Embeddings,
) -> Target:
    from syncd.cloudflare.vectorize import VectorizeIndex
    from syncd.cloudflare.workers_ai import WorkersAI
    from syncd.targets.vectorize.index import VectorStore
    from syncd.targets.vectorize.target import VectorizeTarget
    from syncd.targets.vectorize.writing import ChunkSettings, Embedder, VectorWritePolicy

    policy = VectorWritePolicy(
        section.owner, section.key_prefix, grants.takeover, target.metadata, section.prune == "all", grants.reembed
    )
    return VectorizeTarget(
        VectorStore(VectorizeIndex(transport, target.index), cache),
        Embedder(WorkersAI(transport), target.model, target.fixed_pooling, cache),
        policy,
        build_limits(section),
        settings=ChunkSettings(target.chunk_size, target.chunk_overlap),
        records=records,
    )
