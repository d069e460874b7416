"""The rows of the state file for the Vectorize target."""

import hashlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.state.caches import Embeddings, IndexChange
from syncd.state.db import open_state


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def vector(number: float) -> "array[float]":
    return array("f", [number, number + 0.5])


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Embeddings]:
    db = open_state(tmp_path)
    yield Embeddings(db, "docs", most=5)
    db.close()


def known(memory: Embeddings, *numbers: int, model: str = "m") -> set[int]:
    found = memory.vectors(model, [digest(number) for number in numbers])
    return {number for number in numbers if digest(number) in found}


def test_a_vector_comes_back_as_it_was(memory: Embeddings) -> None:
    memory.keep("m", {digest(1): vector(0.1)})
    assert memory.vectors("m", [digest(1), digest(2)]) == {digest(1): vector(0.1)}


def test_models_do_not_mix(memory: Embeddings) -> None:
    memory.keep("m mean", {digest(1): vector(1)})
    memory.keep("m cls", {digest(1): vector(2)})
    assert memory.vectors("m mean", [digest(1)]) == {digest(1): vector(1)}
    assert known(memory, 1, model="n") == set()


@pytest.mark.parametrize(("count", "left"), [(4, {0, 1, 2, 3}), (5, {0, 1, 2, 3, 4}), (6, {1, 2, 3, 4, 5})])
def test_at_the_limit_the_oldest_goes(memory: Embeddings, count: int, left: set[int]) -> None:
    for number in range(count):
        memory.keep("m", {digest(number): vector(number)})
    assert known(memory, *range(count)) == left


def test_vectors_in_use_stay(memory: Embeddings) -> None:
    for number in range(5):
        memory.keep("m", {digest(number): vector(number)})
    assert known(memory, 0) == {0}
    memory.keep("m", {digest(5): vector(5)})
    assert known(memory, *range(6)) == {0, 2, 3, 4, 5}


def test_many_vectors_are_fetched_at_once(memory: Embeddings) -> None:
    memory.keep("m", {digest(number): vector(number) for number in range(5)})
    assert len(memory.vectors("m", [digest(number) for number in range(40_000)])) == 5
    assert memory.vectors("m", []) == {}


def test_the_last_change_is_remembered_for_each_mirror(tmp_path: Path) -> None:
    db = open_state(tmp_path)
    docs, notes = Embeddings(db, "docs"), Embeddings(db, "notes")
    assert docs.last_change() is None
    change = IndexChange("id", "probe", at=2.0, since=1.0)
    docs.changed(change)
    assert (docs.last_change(), notes.last_change()) == (change, None)
    docs.changed(None)
    assert docs.last_change() is None
    db.close()
