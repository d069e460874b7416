"""init, check: the way to a first working mirror."""

import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.app import Globals, app, await_, os_path
from syncd.cli.findings import Finding, check_owners
from syncd.core.errors import EXIT_CONFIG, EXIT_HALT, EXIT_OK, ConfigError, Halt, SyncdError, TargetMissing, Unreachable
from syncd.core.keys import NOT_UTF8, name_fault
from syncd.core.os_names import from_os, shown_path

if TYPE_CHECKING:
    from syncd.config.schema import Config, MirrorConfig
    from syncd.service.build import Session
    from syncd.targets.base import Target

ACCOUNT_PLACE = "0123456789abcdef0123456789abcdef"


@app.command()
def init(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(parser=os_path, metavar="PATH", help="The folder to mirror.")] = Path(),
    *,
    target: Annotated[
        str,
        typer.Option(
            "--target", metavar="SPEC", help="ai-search:NAMESPACE/INSTANCE, kv:TITLE-OR-ID or vectorize:INDEX"
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> int:
    """Write a commented syncd.toml for a folder and a target."""
    from syncd.cli.out import line
    from syncd.config.template import config_text

    options: Globals = ctx.obj
    section, permission = _target_section(target)
    root = path.expanduser().absolute()
    if not root.is_dir():
        raise ConfigError(
            f"{shown_path(root)} is no directory; name the folder to mirror: syncd init PATH --target {target}"
        )
    if name_fault(from_os(str(root))):
        raise ConfigError(
            f"{shown_path(root)}: its {NOT_UTF8.removesuffix('file')}folder, for a config holds text only"
        )
    place = options.config or Path("syncd.toml")
    account = os.environ.get("CLOUDFLARE_ACCOUNT_ID", ACCOUNT_PLACE)
    text = config_text(name=_mirror_name(root), path=from_os(str(root)), target=section, account=account)
    _write(place, text, force=force)
    line(f"wrote {place}")
    if account == ACCOUNT_PLACE:
        typer.echo("next: set account_id in it")
    typer.echo(f"next: export CLOUDFLARE_API_TOKEN=… (permission: {permission}), then: syncd check")
    return EXIT_OK


def _target_section(spec: str) -> tuple[str, str]:
    """Return the config lines of a target and the permission its token needs."""
    from syncd.config.schema import PERMISSIONS
    from syncd.config.template import ai_search_target, kv_target, vectorize_target

    kind, _, name = spec.partition(":")
    namespace, slash, instance = name.rpartition("/")
    if kind == "kv" and name:
        return kv_target(name), PERMISSIONS[kind]
    if kind == "vectorize" and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return vectorize_target(name), PERMISSIONS[kind]
    if kind == "ai-search" and re.fullmatch(r"[a-z0-9_-]{1,64}", instance) and (namespace or not slash):
        return ai_search_target(namespace or "default", instance), PERMISSIONS[kind]
    raise ConfigError(
        f"--target {spec}: should be ai-search:NAMESPACE/INSTANCE, such as ai-search:default/docs (an instance is 1-64"
        " of a-z 0-9 - _), kv:TITLE-OR-ID, or vectorize:INDEX"
    )


def _mirror_name(root: Path) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", root.name.lower()).strip("-_")
    return name[:64] or "docs"


def _write(place: Path, text: str, *, force: bool) -> None:
    """Write a file that may come to hold a token: readable by its owner only."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(place, flags, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{place} exists already; edit it, or overwrite it with --force") from None
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror}; choose another place with: syncd --config PATH init …") from None


@app.command()
def check(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    excludes: Annotated[bool, typer.Option("--excludes", help="Print what is left out of every mirror.")] = False,
) -> int:
    """Look at everything a mirror needs and say what to mend.

    Config, token, account, targets, folders and watch limits. Changes nothing.
    """
    if excludes:
        from syncd.cli.excludes import print_excludes

        return print_excludes(as_json=as_json)
    options: Globals = ctx.obj
    findings: list[Finding] = []

    async def collect() -> int:
        code = EXIT_OK
        async for finding, failure in _look(options):
            findings.append(finding)
            if not as_json:
                _print(finding)
            code = code or failure
        return code

    code = await_(collect())
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(finding) for finding in findings], "exit_code": code}, indent=2))
    return code


def _print(finding: Finding) -> None:
    from syncd.cli.out import line

    line(f"{finding.level:<5} {finding.what:<22} {finding.message}")
    if finding.remedy:
        line(f"{'':<28} → {finding.remedy}")


Found = tuple[Finding, int]


async def _look(options: Globals) -> AsyncIterator[Found]:
    try:
        config = options.load(warn=False)
    except ConfigError as error:
        yield Finding("config", "FAIL", str(error)), EXIT_CONFIG
        return
    yield Finding("config", "ok", f"{len(config.mirrors)} mirror(s): {', '.join(config.mirrors)}"), EXIT_OK
    for each in options.loose(config):
        yield Finding("permissions", "warn", each.message, each.remedy), EXIT_OK
    from syncd.service.build import open_session

    targets: dict[str, Target] = {}
    for finding in check_owners(config):
        yield finding, EXIT_OK
    try:
        async with open_session(config, read_only=True) as session:
            # Asked for forecasts only, later on; that needs no connection.
            targets = {name: mirror.target for name, mirror in session.mirrors.items()}
            config = session.config
            async for found in _check_remote(session):
                yield found
    except SyncdError as error:
        yield Finding("token", "FAIL", str(error)), error.exit_code
    for name in config.mirrors:
        for found in _check_folder(config, name, targets.get(name)):
            yield found
    yield _check_daemon(config), EXIT_OK


async def _check_remote(session: "Session") -> AsyncIterator[Found]:
    from syncd.cloudflare.ai_search import AISearch
    from syncd.config.schema import permissions

    try:
        status = await AISearch(session.transport, "default", "check").verify_token()
    except (Halt, Unreachable) as error:
        yield Finding("token", "FAIL", str(error)), error.exit_code
        return
    if status is None:
        yield Finding("token", "ok", "global API key; an API token with one permission is safer"), EXIT_OK
    elif status.status == "active":
        yield Finding("token", "ok", f"active ({status.kind} token)"), EXIT_OK
    else:
        remedy = f"make a new token with {permissions(session.config)}"
        yield Finding("token", "FAIL", f"the token is {status.status}", remedy), EXIT_HALT
        return
    for name, mirror in session.mirrors.items():
        try:
            yield Finding(f"{name}: target", "ok", await mirror.target.check()), EXIT_OK
            for each in await mirror.target.advice():
                yield Finding(f"{name}: metadata", "warn", each.message, each.remedy), EXIT_OK
        except SyncdError as error:
            if isinstance(error, TargetMissing) and mirror.settings.create:
                remedy = "nothing: the first reconcile makes it (create = true)"
                yield Finding(f"{name}: target", "warn", f"{_spec(session, name)} is not there yet", remedy), EXIT_OK
            else:
                yield Finding(f"{name}: target", "FAIL", str(error)), error.exit_code


def _spec(session: "Session", name: str) -> str:
    return session.config.mirrors[name].target.spec


def _check_folder(config: "Config", name: str, target: "Target | None") -> list[Found]:
    from syncd.cli.out import of_shard
    from syncd.cli.outlook import outlook, survey
    from syncd.core import sharding
    from syncd.service.build import build_tree
    from syncd.state.db import Meta, open_state_to_read
    from syncd.state.journal import Journal
    from syncd.sync.mounted import protect_look
    from syncd.text.texts import HTML_REMEDY, can_convert_html

    section = config.mirrors[name]
    tree = build_tree(section)
    try:
        tree.identity()
    except Halt as error:
        return [(Finding(f"{name}: folder", "FAIL", str(error)), EXIT_HALT)]
    db = open_state_to_read(config.state_dir)
    try:
        if db:
            protect_look(tree, name, Meta(db, name), Journal(db, name))
        seen = survey(tree, sharding.parse(section.shard), db, name)
    finally:
        if db:
            db.close()
    folder = shown_path(section.path)
    message = f"{folder}{of_shard(section.shard)}: {seen.files} files to mirror, {seen.problems} that cannot be"
    if not seen.complete:
        remedy = f"let syncd read every directory under {folder}; until then nothing is deleted"
        return [(Finding(f"{name}: folder", "warn", message, remedy), EXIT_OK)]
    found = [Finding(f"{name}: folder", "ok", message), _check_watches(name, section)]
    found += [Finding(f"{name}: folder", "warn", f"{each.key}: {each.message}") for each in tree.protected.problems()]
    if section.target.type == "vectorize" and seen.html and not can_convert_html():
        message = f"HTML files that cannot be converted: {seen.html}; the extra 'vectorize' is not installed"
        found.append(Finding(f"{name}: html", "warn", message, HTML_REMEDY))
    if target:
        cloudflare = config.cloudflare
        ahead = outlook(seen, target, cloudflare.tpslimit, cloudflare.transfers)
        found.append(Finding(f"{name}: forecast", "ok", ahead))
    return [(each, EXIT_OK) for each in found]


def _check_watches(name: str, section: "MirrorConfig") -> Finding:
    what = f"{name}: watch"
    limit_file = Path("/proc/sys/fs/inotify/max_user_watches")
    if section.watch in ("poll", "off") or not limit_file.exists():
        return Finding(what, "ok", section.watch)
    limit = int(limit_file.read_text())
    folders = 1 + sum(len(dirs) for _, dirs, _ in os.walk(section.path))
    if folders > limit:
        remedy = f"sysctl fs.inotify.max_user_watches={max(folders * 2, 524288)}; until then syncd polls"
        return Finding(what, "warn", f"{folders} directories, but inotify allows {limit} watches", remedy)
    return Finding(what, "ok", f"{folders} directories, inotify allows {limit} watches")


def _check_daemon(config: "Config") -> Finding:
    from syncd.queries.status import snapshot

    seen = snapshot(config)
    lasts = [mirror["last_reconcile"] for mirror in seen["mirrors"].values()]
    daemon = f"running (pid {seen['daemon']['pid']})" if seen["daemon"]["running"] else "not running"
    if None in lasts:
        return Finding("last reconcile", "warn", f"never, for some mirror; daemon {daemon}", "syncd reconcile")
    return Finding("last reconcile", "ok", f"{min(lasts)}; daemon {daemon}")
