"""What a refusal means where nothing single was asked for."""

from collections.abc import Iterator
from contextlib import contextmanager

from syncd.core.errors import Halt, Park


@contextmanager
def refusals_halt(what: str) -> Iterator[None]:
    """What is refused in the block is no single entry but the remote store as a whole, `what`: raise Halt."""
    try:
        yield
    except Park as error:
        raise Halt(f"{what} cannot be used: {error}") from error
