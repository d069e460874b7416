"""Workers AI, of which there are the models for text embeddings."""

from syncd.emulator.routing import Endpoint
from syncd.emulator.workers_ai import run

__all__ = ["endpoints"]


def endpoints() -> list[Endpoint]:
    """The whole table of the API."""
    return [*run.ENDPOINTS]
