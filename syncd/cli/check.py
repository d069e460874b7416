"""check: looks at everything that a mirror needs, changes nothing and prints a remedy for each fault."""

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from syncd.cli.context import GlobalOptions, as_json_option, chosen_mirrors, command, mirrors_argument, run_async
from syncd.cli.output import print_json, print_line, shard_suffix
from syncd.core.errors import (
    EXIT_CONFIG,
    EXIT_HALT,
    EXIT_OK,
    EXIT_UNREACHABLE,
    ConfigError,
    Halt,
    Retry,
    SyncdError,
    TargetMissing,
    Unreachable,
    most_serious,
)
from syncd.core.keys import shown, shown_path
from syncd.core.plain_text import LEAST_SECRET, counted

if TYPE_CHECKING:
    import sqlite3

    from syncd.cloudflare.ai_search import TokenStatus
    from syncd.cloudflare.gate import Gate
    from syncd.config.schema import Config, MirrorConfig
    from syncd.core.names import Forms
    from syncd.queries.forecast import FolderSurvey, Growth
    from syncd.service.build import Session
    from syncd.targets.base import Target, Usage


Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the output. remedy: how to fix it, unless it is ok. code: the exit code that it asks for."""

    what: str
    level: Level
    message: str
    remedy: str | None = None
    code: int = EXIT_OK

    def as_json(self) -> dict[str, str | None]:
        """Return the finding as `check --json` prints it."""
        return {"what": self.what, "level": self.level, "message": self.message, "remedy": self.remedy}


def _advice(what: str, message: str, remedy: str | None) -> Finding:
    return Finding(what, "warn" if remedy else "ok", message, remedy)


@command()
@mirrors_argument
@as_json_option
@click.option("--excludes", is_flag=True, help="Print the built-in excludes.")
@click.option("--types", is_flag=True, help="Print the file types that each kind of target takes, and their sizes.")
@click.option("--probe", is_flag=True, help="Learn undocumented answers with a throw-away item.")
@click.pass_obj
def check(
    options: GlobalOptions, mirrors: tuple[str, ...], *, as_json: bool, excludes: bool, types: bool, probe: bool
) -> int:
    """Check everything that a mirror needs and print how to fix it.

    It looks at config, token, account, targets, folders and watch limits, and changes nothing. Only --probe changes
    something: it uploads a throw-away item to each AI Search instance, deletes it, and stores what it learned.
    """
    if excludes + types + probe > 1:
        raise click.UsageError("--excludes, --types and --probe stand alone; name one of them")
    if excludes or types:
        from syncd.cli.file_types import print_excludes, print_types

        return print_excludes(as_json=as_json) if excludes else print_types(as_json=as_json)
    if probe:
        from syncd.cli.probe import probe_targets

        return probe_targets(options, mirrors, as_json=as_json)
    findings: list[Finding] = []

    async def collect() -> None:
        async for finding in _check(options, mirrors):
            findings.append(finding)
            if not as_json:
                _print(finding)

    run_async(collect())
    code = most_serious(finding.code for finding in findings)
    if as_json:
        print_json({"checks": [finding.as_json() for finding in findings], "exit_code": code})
    return code


def _print(finding: Finding) -> None:
    print_line(f"{finding.level:<5} {finding.what:<22} {finding.message}")
    if finding.remedy:
        print_line(f"{'':<28} → {finding.remedy}")


async def _check(options: GlobalOptions, names: Sequence[str]) -> AsyncIterator[Finding]:
    try:
        config = options.load(warn=False)
        chosen = chosen_mirrors(config, names)
    except ConfigError as error:
        for line in error.lines:
            yield Finding("config", "FAIL", line, code=EXIT_CONFIG)
        return
    yield Finding("config", "ok", f"{counted(len(config.mirrors), 'mirror')}: {', '.join(config.mirrors)}")
    for file in options.exposed_files(config):
        yield Finding("permissions", "warn", file.message, file.remedy)
    if config.notify.urls:
        yield _notices(config)
    config = config.with_mirrors(chosen)
    for finding in [*_check_state_dir(config), *_check_owners(config)]:
        yield finding
    from syncd.service.build import open_session

    targets: dict[str, Target] = {}
    gate: Gate | None = None
    usages: dict[str, Sequence[Usage]] = {}
    try:
        async with open_session(config, read_only=True) as session:
            # The forecasts below use the targets without a connection.
            targets = {name: mirror.target for name, mirror in session.mirrors.items()}
            config, gate = session.config, session.transport.gate
            async for finding in _check_remote(session, usages):
                yield finding
    except SyncdError as error:
        yield Finding("token", "FAIL", str(error), code=error.exit_code)
    for name in config.mirrors:
        for finding in _check_folder(config, name, targets.get(name), gate, usages.get(name, ())):
            yield finding
    yield _check_daemon(config)


# -- state directory and owner marks


def _check_state_dir(config: "Config") -> list[Finding]:
    """Return why no pass of this user can store its state, nothing if one can."""
    from syncd.state.directory import obstacle

    if (found := obstacle(config.state_dir)) is None:
        return []
    if found.for_all:
        return [Finding("state", "FAIL", found.message, found.remedy, EXIT_CONFIG)]
    # A service may have another user, and another view of the file systems.
    return [Finding("state", "warn", f"this process can make no pass: {found.message}", found.remedy)]


def _check_owners(config: "Config") -> list[Finding]:
    """Return the owner mark of each mirror, with a warning if entries of other owners have keys of it."""
    from syncd.state.db import open_copy, open_state_to_read

    with closing(open_state_to_read(config.state_dir) or open_copy(config.state_dir)) as db:
        return [_check_owner(config, name, db) for name in config.mirrors]


def _check_owner(config: "Config", name: str, db: "sqlite3.Connection") -> Finding:
    from syncd.queries.status import foreign_keys, owner_mark

    section, what = config.mirrors[name], f"{name}: owner"
    mark = owner_mark(config, name, db)
    if keys := foreign_keys(name, db):
        entries = counted(len(keys), "entry")
        message = f"{mark}: {entries} of other owners under keys of this mirror, such as {shown(keys[0])}"
        remedy = f"give each its own key_prefix, or make them this mirror's: syncd reconcile --takeover {name}"
        return Finding(what, "warn", message, remedy)
    if mark is None:
        return Finding(what, "ok", "decided by the first pass, from the mirror's name and the state directory")
    if section.shard and not section.owner:
        remedy = f'owner = "{name}", or any other mark, in the config that all shards share'
        return Finding(what, "warn", f"{mark}, which holds for shards on this machine only", remedy)
    source = "set in the config" if section.owner else "from the mirror's name, this machine and the folder"
    return Finding(what, "ok", f"{mark} ({source})")


# -- token and targets


async def _check_remote(session: "Session", usages: "dict[str, Sequence[Usage]]") -> AsyncIterator[Finding]:
    """Check token and targets, and fill in how much of the plan's ceilings each mirror uses."""
    try:
        network, status = await _contact(session)
    except (Halt, Retry) as error:
        yield Finding("token", "FAIL", str(error), code=error.exit_code)
        return
    yield network
    if network.level == "FAIL":
        return
    token = _token_finding(session, status)
    yield token
    if token.level == "FAIL":
        return
    counted_kinds: set[str] = set()
    for name, mirror in session.mirrors.items():
        failed = False
        async for finding in _check_target(session, name):
            yield finding
            failed = failed or finding.code != EXIT_OK
        if failed:
            continue
        kind = session.config.mirrors[name].target.type
        try:
            # The stores of the account are counted once for each kind of target.
            usages[name] = await mirror.target.usage(account=kind not in counted_kinds)
        except SyncdError as error:
            yield Finding(f"{name}: capacity", "warn", f"unknown: {error}", "run syncd check again later")
        counted_kinds.add(kind)


def _token_finding(session: "Session", status: "TokenStatus | None") -> Finding:
    from syncd.config.schema import permissions

    if status is not None and status.status != "active":
        remedy = f"make a new token with {permissions(session.config)}"
        return Finding("token", "FAIL", f"the token is {status.status}", remedy, EXIT_HALT)
    if not session.transport.login.credentials.forms:
        message = f"shorter than {LEAST_SECRET} characters, so the log and messages do not hide it"
        return Finding("token", "warn", message, "use a longer one; the secrets of Cloudflare are longer")
    if status is None:
        return Finding("token", "ok", "global API key; an API token with only the needed permissions is safer")
    return Finding("token", "ok", f"active ({status.kind} token)")


async def _contact(session: "Session") -> "tuple[Finding, TokenStatus | None]":
    """Return the finding on the network and, if the API answers, the status of the token.

    Takes no longer than CONTACT_S. Raises Halt, or Retry for a failure of the API itself.
    """
    import asyncio

    from syncd.cloudflare.ai_search import AISearch
    from syncd.cloudflare.connection import CONTACT_S, clock_fault, find_fault, unanswered_fault

    transport, began = session.transport, time.monotonic()
    fault, status = await find_fault(transport.base_url), None
    if fault is None:
        try:
            async with asyncio.timeout(CONTACT_S - (time.monotonic() - began)):
                status = await AISearch(transport, "default", "check").verify_token()
        except (TimeoutError, Unreachable) as error:
            counters = transport.counters
            outcomes = {status for _, status in counters.by}
            fault = unanswered_fault(transport.base_url, counters.requests, outcomes, error)
    host = transport.base_url.split("/")[2]
    if fault:
        return Finding("network", "FAIL", fault.message, fault.remedy, EXIT_UNREACHABLE), None
    if wrong := clock_fault(transport.their_time):
        return Finding("clock", "warn", wrong.message, wrong.remedy), status
    return Finding("network", "ok", f"{host} can be reached"), status


async def _check_target(session: "Session", name: str) -> AsyncIterator[Finding]:
    from syncd.cli.probe import learned_line

    mirror, what = session.mirrors[name], f"{name}: target"
    try:
        yield Finding(what, "ok", await mirror.target.check())
        for advice in await mirror.target.advice():
            yield _advice(f"{name}: {advice.about}", advice.message, advice.remedy)
    except SyncdError as error:
        spec = session.config.mirrors[name].target.spec
        if isinstance(error, TargetMissing) and mirror.settings.create:
            remedy = "nothing to do: the first reconcile makes it (create = true)"
            yield Finding(what, "warn", f"{spec} is not there yet", remedy)
        else:
            yield Finding(what, "FAIL", f"{spec}: {error}", code=error.exit_code)
    if learned := learned_line(session.config, name, session.db):
        message, counts = learned
        yield _advice(f"{name}: probe", message, None if counts else "syncd check --probe")


# -- folder and daemon


def _check_folder(
    config: "Config", name: str, target: "Target | None", gate: "Gate | None", usages: "Sequence[Usage]"
) -> list[Finding]:
    from syncd.cli.survey import survey_of
    from syncd.queries.forecast import Growth, describe
    from syncd.service.build import build_tree
    from syncd.text.documents import HTML_REMEDY, can_convert_html

    section, what = config.mirrors[name], f"{name}: folder"
    tree = build_tree(section)
    try:
        tree.identity()
    except Halt as error:
        return [Finding(what, "FAIL", str(error), code=EXIT_HALT)]
    survey = survey_of(config, name, tree)
    folder, files = shown_path(section.path), counted(survey.files, "file")
    message = f"{folder}{shard_suffix(section.shard)}: {files} to mirror, {survey.problems} with a problem"
    if not survey.complete:
        remedy = f"let syncd read every directory under {folder}; until then nothing is deleted"
        return [Finding(what, "warn", message, remedy)]
    findings = [Finding(what, "ok", message), _check_watches(name, section)]
    findings += [Finding(what, "warn", f"{problem.key}: {problem.message}") for problem in tree.protected.problems()]
    if section.target.type == "vectorize" and survey.html and not can_convert_html():
        message = f"HTML files that cannot be converted: {survey.html}; the extra 'vectorize' is not installed"
        findings.append(Finding(f"{name}: html", "warn", message, HTML_REMEDY))
    if target and gate:
        findings.append(Finding(f"{name}: forecast", "ok", describe(survey, target, gate.seconds_for, gate.limit)))
    findings += _capacity(name, usages, Growth(survey.files - survey.known, survey.unsent))
    return findings + ([_check_forms(name, tree.limits.forms, survey)] if tree.limits.forms else [])


def _check_forms(name: str, forms: "Forms", survey: "FolderSurvey") -> Finding:
    from syncd.queries.forecast import describe_forms
    from syncd.text.converter import CONVERT_REMEDY, converter_version

    missing = bool(forms.convert) and converter_version() is None
    what, message = f"{name}: convert", describe_forms(survey, forms, missing=missing)
    return Finding(what, "FAIL", message, CONVERT_REMEDY, EXIT_CONFIG) if missing else Finding(what, "ok", message)


def _capacity(name: str, usages: "Sequence[Usage]", growth: "Growth") -> list[Finding]:
    """Return how much room the plans' ceilings leave after the next pass. They are never a reason to refuse it.

    A number of the whole account has its own noun in place of the mirror's name.
    """
    from syncd.queries.forecast import describe_usage

    findings = []
    for usage in usages:
        line, remedy = describe_usage(usage, growth)
        if usage.of_account:
            findings.append(_advice(usage.what, line.removeprefix(f"{usage.what}: "), remedy))
        else:
            findings.append(_advice(f"{name}: capacity", line, remedy))
    return findings


def _check_watches(name: str, section: "MirrorConfig") -> Finding:
    limit_file = Path("/proc/sys/fs/inotify/max_user_watches")
    if section.watch not in ("auto", "inotify") or not limit_file.exists():
        return Finding(f"{name}: watch", "ok", section.watch)
    limit = int(limit_file.read_text())
    folders = 1 + sum(len(dirs) for _, dirs, _ in os.walk(section.path))
    if folders > limit:
        remedy = f"sysctl fs.inotify.max_user_watches={max(folders * 2, 524288)}; until then syncd polls"
        message = f"{counted(folders, 'directory')}, but inotify allows {limit} watches"
        return Finding(f"{name}: watch", "warn", message, remedy)
    return Finding(f"{name}: watch", "ok", f"watches needed: {folders}, allowed by inotify: {limit}")


def _notices(config: "Config") -> Finding:
    from syncd.service.outbox import apprise

    try:
        apprise([url.get_secret_value() for url in config.notify.urls])
    except ConfigError as error:
        return Finding("notices", "FAIL", str(error), code=EXIT_CONFIG)
    return Finding("notices", "ok", f"{counted(len(config.notify.urls), 'address')}; to try: syncd notify --test")


def _check_daemon(config: "Config") -> Finding:
    from syncd.queries.status import snapshot

    status = snapshot(config)
    times = [mirror["last_reconcile"] for mirror in status["mirrors"].values()]
    daemon = f"running (pid {status['daemon']['pid']})" if status["daemon"]["running"] else "not running"
    if None in times:
        of = f", for {times.count(None)} of {len(times)} mirrors" if len(times) > 1 else ""
        return Finding("last reconcile", "warn", f"never{of}; daemon {daemon}", "syncd reconcile")
    return Finding("last reconcile", "ok", f"{min(times)}; daemon {daemon}")
