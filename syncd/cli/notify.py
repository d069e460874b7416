"""notify: sends a test notice to every address of [notify], and prints the result of each."""

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from syncd.cli.context import GlobalOptions, command, run_async
from syncd.cli.output import print_line
from syncd.core.errors import EXIT_OK, EXIT_PROBLEMS, ConfigError

if TYPE_CHECKING:
    from syncd.config.schema import Notify
    from syncd.service.outbox import Notice


@command()
@click.option("--test", is_flag=True, required=True, expose_value=False, help="Send a test notice now.")
@click.pass_obj
def notify(options: GlobalOptions) -> int:
    """Send a test notice to the addresses of [notify].

    It needs no daemon. The exit code is 1 if an address refused the notice or did not answer.
    """
    section = options.load(level="ERROR").notify
    if not (section.webhook.get_secret_value() or section.urls):
        raise ConfigError("no notices are configured; set notify.webhook, or notify.urls")
    from syncd.service.outbox import Notice

    detail = "If you can read this, syncd can reach you."
    return run_async(_send(section, Notice(None, "test", "test", detail, time.time())))


async def _send(section: "Notify", notice: "Notice") -> int:
    code = EXIT_OK
    async for receiver, fault in _results(section, notice):
        print_line(f"{receiver:10} {f'FAILED: {fault}' if fault else 'sent'}")
        code = EXIT_PROBLEMS if fault else code
    return code


async def _results(section: "Notify", notice: "Notice") -> AsyncIterator[tuple[str, str]]:
    """Send a notice to each receiver. Yield the name of the receiver, and the error, "" if the notice was sent."""
    from syncd.service.outbox import apprise, webhook

    async with webhook(section.webhook.get_secret_value()) as post:
        if post:
            yield "webhook", await post(notice)
    for number, url in enumerate(section.urls, 1):
        if send := apprise([url.get_secret_value()]):
            yield f"urls[{number}]", await send(notice)
