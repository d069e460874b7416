import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.state.db import open_state


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Open a new state file in the directory `state`."""
    with closing(open_state(tmp_path / "state")) as opened:
        yield opened
