"""From configuration to working mirrors: one state file, one transport with one rate gate, a target for each mirror."""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from syncd import shards
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.transport import Transport
from syncd.config.faults import fights
from syncd.config.settings import Cloudflare, Config, MirrorConfig
from syncd.errors import ConfigError, StateDamaged, SyncdError
from syncd.login import credentials, read_again
from syncd.mirror import Mirror, Settings, assemble
from syncd.opening import NOTHING_GRANTED, Grants, make_target, rules_of
from syncd.plan import Policy
from syncd.state import db as state
from syncd.state import owner
from syncd.state.claims import Claims, forget_listing
from syncd.state.handover import hand_over
from syncd.state.journal import Journal
from syncd.state.lock import Lock
from syncd.state.reading import open_copy
from syncd.state.steady import Age, boot_id, uptime_s
from syncd.state.trouble import no_database, when_free, writable

OnDamage = Literal["refuse", "rebuild", "discard"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Session:
    """Everything a command needs, open. Close it by leaving `open_session`."""

    config: Config
    transport: Transport
    db: sqlite3.Connection
    mirrors: dict[str, Mirror]
    lock: Lock | None


@asynccontextmanager
async def open_session(
    config: Config,
    names: Sequence[str] = (),
    *,
    grants: Grants = NOTHING_GRANTED,
    read_only: bool = False,
    daemon: bool = False,
    on_damage: OnDamage = "refuse",
) -> AsyncIterator[Session]:
    """Open the named mirrors (all, if none is named) and yield them.

    read_only: work on a copy of the state and without its lock, for commands that change nothing.
    daemon: the lock says that the daemon holds it.
    on_damage: whether a damaged state file is refused, or set aside for a new one; discard: it is known to be damaged.
    Raises ConfigError (no token, unknown mirror), Locked or StateHalt.
    """
    for name in names:
        mirror_config(config, name)
    async with AsyncExitStack() as stack:
        if read_only:
            held, db = None, await when_free(lambda: _open_copy(config.state_dir))
        else:
            held = stack.enter_context(state.lock(config.state_dir, daemon=daemon))
            db = await when_free(lambda: _open_to_write(config.state_dir, on_damage))
        stack.callback(db.close)
        stack.enter_context(_damage_found(db, config.state_dir / state.FILE_NAME))
        config = _with_owners(config, db)
        transport = await stack.enter_async_context(open_transport(config))
        mirrors = {}
        for name in names or config.mirrors:
            section = config.mirrors[name]
            target = make_target(transport, db, name, section, grants)
            stack.push_async_callback(target.aclose)
            _bind(db, name, _place(config, section), section.key_prefix)
            hand_over(db, name, shards.parse(section.shard))
            mirrors[name] = assemble(db, name, section.path, target, settings_of(section, grants))
        yield Session(config, transport, db, mirrors, held)


def mirror_config(config: Config, name: str) -> MirrorConfig:
    """Return one mirror's section. Raises ConfigError naming the mirrors there are."""
    try:
        return config.mirrors[name]
    except KeyError:
        raise ConfigError(f"no mirror {name!r} is configured; there is: {', '.join(config.mirrors)}") from None


def open_transport(config: Config) -> Transport:
    """Return the transport of this process. Raises ConfigError if no token, proxy or certificate can be used."""
    section = config.cloudflare
    try:
        return Transport(
            section.base_url,
            section.account_id,
            credentials(config),
            Gate(section.tpslimit, section.transfers),
            timeout=section.timeout,
            retry_for=section.retry_for,
            login=lambda: read_again(config),
        )
    except ValueError as error:
        raise ConfigError(f"cloudflare: {error}") from None
    except OSError as error:
        why = f"the certificates named by SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {error.strerror or error}"
        raise ConfigError(f"cloudflare: {why}") from None


def settings_of(section: MirrorConfig, grants: Grants) -> Settings:
    """Return what a person decided for a mirror, in the config and on the command line."""
    return Settings(
        policy=Policy(section.owner, section.key_prefix, section.prune, grants.takeover, shards.parse(section.shard)),
        rules=rules_of(section),
        max_delete=section.max_delete,
        settle=section.settle,
        settle_max=section.settle_max,
        delete_after=section.delete_after,
        create=section.target.create,
        audit_interval=section.audit_interval,
        split=section.oversize == "split",
        spec=section.target.spec,
    )


def _with_owners(config: Config, db: sqlite3.Connection) -> Config:
    """Fill in the owners that nobody has set, and remember them. Raises ConfigError if two mirrors would fight."""
    mirrors = {}
    machine = owner.machine(config.state_dir) or owner.UNDECIDED
    for name, section in config.mirrors.items():
        meta = state.Meta(db, name)
        found = section.owner or owner.known_or_derived(name, section.path, meta, machine)
        if not section.owner:
            owner.remember(found, section.path, meta)
        mirrors[name] = section.model_copy(update={"owner": found})
    for name, why in fights(mirrors):
        raise ConfigError(f"mirrors.{name}{why}")
    return config.model_copy(update={"mirrors": mirrors})


def _place(config: Config, section: MirrorConfig) -> str:
    """The target that a journal speaks of. The same account and name elsewhere, as in the stand-in, is another one."""
    where = config.cloudflare.base_url
    elsewhere = "" if where == Cloudflare.model_fields["base_url"].default else f" {where}"
    return f"{config.cloudflare.account_id} {section.target.spec}{elsewhere}"


def _bind(db: sqlite3.Connection, name: str, place: str, prefix: str) -> None:
    """A journal speaks of one target and prefix only; under another it would be a tale of somewhere else.

    What was written under another prefix of the same target stays claimed: its files may be there.
    """
    journal, meta, binding = Journal(db, name), state.Meta(db, name), [place, prefix]
    before = meta.get("binding")
    if before not in (None, binding):
        log.warning("journal.rebound", before=before, now=binding)
        moved = isinstance(before, list) and before[0] == place
        if moved:
            Claims(db, name).inherit(Age(db, boot_id(), uptime_s()).at(uptime_s()))
        journal.clear(but=("claim",) if moved else ())
        forget_listing(meta)
    if before != binding:
        meta.set("binding", binding)


async def _open_copy(state_dir: Path) -> sqlite3.Connection:
    return open_copy(state_dir)


async def _open_to_write(state_dir: Path, on_damage: OnDamage) -> sqlite3.Connection:
    if on_damage == "discard":
        return _begun_anew(state_dir, "found while it was at work")
    try:
        db = state.open_state(state_dir)
    except StateDamaged as error:
        if on_damage == "refuse":
            raise
        return _begun_anew(state_dir, str(error))
    try:
        # Whoever has it locked is waited for here, and not in the middle of what is prepared next.
        with state.transaction(db):
            return db
    except BaseException:
        db.close()
        raise


def _begun_anew(state_dir: Path, why: str) -> sqlite3.Connection:
    aside = state.set_aside(state_dir)
    log.error("state.damaged", why=why, kept=str(aside), consequence="a new state file is built")
    return state.open_state(state_dir)


@contextmanager
def _damage_found(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    """A damaged page can come out as any value, and so as any error: after one the file is looked through."""
    try:
        with writable(path):
            yield
    except SyncdError:
        raise
    except Exception as error:
        found = no_database(db, path)
        if found:
            raise found from error
        raise
