"""run: the daemon, and the requests of other commands that it carries out."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from syncd.cli.context import GlobalOptions, command
from syncd.cli.reconcile import ReconcileRequest, make_report, print_result
from syncd.core.errors import EXIT_OK, ConfigError, most_serious

if TYPE_CHECKING:
    from syncd.config.schema import Config
    from syncd.service.control import Channel
    from syncd.service.daemon import StatusPage
    from syncd.service.runtime import Runtime

OTHER_SETTINGS = (
    "syncd: the daemon has other settings of the mirrors than this command, and this pass uses those of the daemon."
    " After a change of the config, run syncd reload. Variables that are set for this command alone do not reach the"
    " daemon: stop it, or write the setting into the config\n"
)


@command()
@click.pass_obj
def run(options: GlobalOptions) -> int:
    """Watch the folders and keep the targets in step.

    It runs until SIGTERM or SIGINT.
    """
    from syncd.service.daemon import serve

    return serve(lambda: options.load(level="INFO"), make_page, COMMANDS)


def make_page() -> "StatusPage":
    """Return the status page. The import is late, because a daemon without a status page does not need the module."""
    from syncd.web.app import WebServer

    return WebServer()


async def reconcile_in_daemon(runtime: "Runtime", message: Mapping[str, Any], channel: "Channel") -> int:
    """Make the passes of a `reconcile` command in the workers of the daemon, and send the output of the command.

    message: the request of the command. Returns the exit code of the command.
    """
    from syncd.config.schema import settings_digest
    from syncd.service.build import NO_GRANTS, Grants, add_mirror
    from syncd.service.control import reading_request
    from syncd.sync.mirror import PassOptions
    from syncd.sync.once import Report, wait_for_followup

    session = runtime.session
    with reading_request():
        request = ReconcileRequest(
            PassOptions(**message["options"]), Grants(**message["grants"]), None, bool(message["json"])
        )
        names, settings, wait_s = message["mirrors"], message["settings"], message["wait_s"]
    _check_mirrors(session.config, names)
    if settings != settings_digest(session.config, names):
        channel.err(OTHER_SETTINGS)
    mirrors = {
        name: session.mirrors[name] if request.grants == NO_GRANTS else add_mirror(session, name, request.grants)
        for name in names or session.mirrors
    }
    chosen = replace(session, mirrors=mirrors)
    reports: dict[str, Report] = {}
    for name, mirror in mirrors.items():
        channel.show(f"{name}: waiting for the pass under way", 0, 0)
        make = partial(make_report, chosen, mirror, request, Report(), channel)
        reports[name] = await runtime.workers[name].run_requested(make)
    if wait_s is not None:
        for name, report in reports.items():
            channel.show(f"{name}: waiting until all is searchable", 0, 0)
            await wait_for_followup(mirrors[name], report, wait_s, runtime.workers[name].status)
    with _sent_to(channel):
        code = print_result(chosen, request, reports)
    for report in reports.values():
        report.drop_tables()
    return code


async def retry_in_daemon(runtime: "Runtime", message: Mapping[str, Any], channel: "Channel") -> int:
    """Serve the keys that a `retry` command made due in the workers of the daemon, and send the remaining problems.

    message: the request of the command. Returns the exit code of the command.
    """
    from syncd.cli.items import print_retried
    from syncd.service.control import reading_request
    from syncd.sync.once import serve_due

    with reading_request():
        names = message["mirrors"]
    _check_mirrors(runtime.session.config, names)
    codes = {EXIT_OK}
    for name in names:
        worker = runtime.workers[name]
        report = await worker.run_requested(partial(serve_due, worker.mirror), everything=False)
        with _sent_to(channel):
            print_retried(name, worker.mirror, report)
        report.drop_tables()
        codes.add(report.exit_code)
    return most_serious(codes)


async def look_in_daemon(runtime: "Runtime", _message: Mapping[str, Any], _channel: "Channel") -> int:
    """Check whether idle mirrors can reach their remote. `status` shows the result."""
    runtime.idle_look.note_reader()
    await runtime.idle_look.look()
    return EXIT_OK


@contextmanager
def _sent_to(channel: "Channel") -> Iterator[None]:
    """Send everything that the `with` block prints. The block must not await, because another task might print then."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        yield
    channel.out(output.getvalue())
    channel.err(errors.getvalue())


def _check_mirrors(config: "Config", names: Sequence[str]) -> None:
    """Raise ConfigError for a mirror that the daemon does not have. The command may have read a newer config."""
    from syncd.config.schema import mirror_config

    for name in names:
        try:
            mirror_config(config, name)
        except ConfigError as error:
            raise ConfigError(f"{error} (after a change of the config: syncd reload)") from None


COMMANDS = {"reconcile": reconcile_in_daemon, "retry": retry_in_daemon, "look": look_in_daemon}
"""Name of a request -> the function that carries it out in the daemon."""
