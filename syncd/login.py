"""The credentials of this process: read from where the config has them, kept out of all output, read again."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Protocol

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.transport import Transport
from syncd.config.settings import Config, login
from syncd.errors import ConfigError
from syncd.masks import hide

LOGIN_S = 2.0
"""How often the daemon reads the token file."""


class Loop(Protocol):
    """One mirror's loop, as far as credentials matter to it."""

    said: tuple[str, str | None]

    def request_full(self) -> None: ...


def credentials(config: Config) -> Credentials:
    """Read the token or the key from where the config has it, and keep it out of all output. May raise ValueError."""
    secret, email = login(config)
    hide([secret])
    return Credentials.global_key(email, secret) if email else Credentials.bearer(secret)


def read_again(config: Config) -> Credentials:
    """The credentials as they are by now. Raises ConfigError if there are none that can be used."""
    try:
        return credentials(config)
    except ValueError as error:
        raise ConfigError(f"cloudflare: {error}") from None


async def follow_login(transport: Transport, keepers: Mapping[str, Loop]) -> None:
    """Read the token file every few seconds: a new token counts at once, and ends a halt for the former one."""
    used = transport.credentials
    while True:
        await asyncio.sleep(LOGIN_S)
        # A file that is being written, or is gone for a moment, leaves the token that was read before.
        with contextlib.suppress(ConfigError):
            await asyncio.to_thread(transport.renew)
        if transport.credentials is not used:
            used = transport.credentials
            for keeper in keepers.values():
                if keeper.said[0] == "halted":
                    keeper.request_full()
