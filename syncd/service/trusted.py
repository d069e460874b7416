"""Keeps over restarts for which kinds of request the present credentials have worked."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from syncd.cloudflare.transport import Transport
from syncd.state.db import Meta

CREDENTIALS_WORKED = "credentials_worked"
"""The name of a stored value: the fingerprint of the credentials, and the kinds of request that accepted them."""


@contextmanager
def known_credentials(transport: Transport, db: sqlite3.Connection) -> Iterator[None]:
    """Read for which kinds of request the present credentials have worked, and store these kinds at the end.

    A command that changes nothing tries a refused request once only, so that a person has the answer at once.
    """
    meta = Meta(db, "")
    stored = meta.get(CREDENTIALS_WORKED)
    if isinstance(stored, dict) and stored.get("fingerprint") == transport.login.credentials.fingerprint():
        transport.trust.add_known(str(kind) for kind in stored.get("kinds") or ())
    try:
        yield
    finally:
        # Without the stored value, the next process halts at the first refusal.
        with suppress(sqlite3.Error):
            keep_known_credentials(transport, db)


def keep_known_credentials(transport: Transport, db: sqlite3.Connection) -> None:
    """Store for which kinds of request the present credentials have worked, if that is news."""
    meta = Meta(db, "")
    found = {"fingerprint": transport.login.credentials.fingerprint(), "kinds": transport.trust.known()}
    if found != meta.get(CREDENTIALS_WORKED):
        meta.set(CREDENTIALS_WORKED, found)
