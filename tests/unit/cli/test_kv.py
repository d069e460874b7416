"""Removing single keys of Workers KV."""

import pytest

from syncd.cli.kv import remove_keys
from syncd.cloudflare.kv import KVNamespace
from syncd.core.errors import Park, Retry, SyncdError, Unreachable


class FailingNamespace(KVNamespace):
    """A namespace that refuses each delete of a key with an error."""

    def __init__(self, error: SyncdError) -> None:
        self._error = error

    async def delete_value(self, key: str) -> None:
        del key
        raise self._error


@pytest.mark.parametrize("error", [Park("refused", "no"), Retry("the remote answers 500")])
async def test_the_error_of_one_key_is_listed_as_that_of_many_keys_is(error: SyncdError) -> None:
    assert await remove_keys(FailingNamespace(error), ["guide.md"]) == {"guide.md": error}


async def test_a_remote_out_of_reach_is_the_error_of_the_command() -> None:
    with pytest.raises(Unreachable):
        await remove_keys(FailingNamespace(Unreachable("no request was answered")), ["guide.md"])
