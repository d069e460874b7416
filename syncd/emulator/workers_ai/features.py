"""Texts as vectors by hashing, so that texts with words or parts of words in common are near. PURE.

No meaning is in it: a synonym is as far as any other word.
"""

import re
import zlib
from collections import Counter
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.uint64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

_WORD = re.compile(r"\w+")
_STOP_WORDS = """
a about after again all also an and any are as at be because been before both but by can could did do does each every
for from had has have he her here his how i if in into is it its just many may me more most much my no not of on one
only or other our out over she should so some such than that the their them then there these they this those to under
up us was we were what when where which while who will with would you your
"""
_STOPS = frozenset(_STOP_WORDS.split())
_STOP_WEIGHT = 0.1
_WORDS_SHARE, _GRAMS_SHARE = 0.8, 0.6
"""Lengths of the two halves of a vector that has both: 0.64 of a score is by words, 0.36 by parts of words."""

_WORD_PLACES = 4
"""A sentence has few words: with one place for each, two that meet would make strangers near."""

_GRAM_LENGTHS = (3, 4, 5)
_SPACE = ord(" ")
_DECIMALS = 8
# Of splitmix64, a mixer that is made of multiplications and shifts.
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def embed(texts: list[str], dimensions: int, seed: str) -> list[list[float]]:
    """A vector of length 1 for each text, always the same. Those of two seeds have nothing to do with each other."""
    salt = np.full(1, zlib.crc32(seed.encode()), np.uint64) * np.uint64(_STEP)
    vectors = np.stack([_vector(text.lower(), dimensions, salt) for text in texts])
    rounded: list[list[float]] = np.round(vectors, _DECIMALS).tolist()
    return rounded


def _vector(text: str, dimensions: int, salt: Numbers) -> Floats:
    counts = Counter(_WORD.findall(text))
    telling = [word for word in counts if word not in _STOPS]
    hashes = np.array([zlib.crc32(word.encode()) for word in counts], np.uint64)
    repeats = np.array(list(counts.values()), np.float64)
    damping = np.array([_STOP_WEIGHT if word in _STOPS else 1.0 for word in counts], np.float64)
    weights = damping * (1 + np.log(repeats))
    copies = np.concatenate([hashes + (number << 32) for number in range(_WORD_PLACES)])
    words = _spread(copies, np.tile(weights, _WORD_PLACES), dimensions, salt)
    grams = _grams(telling)
    parts = _spread(grams, np.ones(len(grams)), dimensions, salt)
    total = _WORDS_SHARE * _unit(words) + _GRAMS_SHARE * _unit(parts)
    if not total.any():
        # Nothing but punctuation, or features that took each other away: the text as a whole.
        whole = np.array([zlib.crc32(text.encode(errors="replace"))], np.uint64)
        total = _spread(whole, np.ones(1), dimensions, salt)
    return _unit(total)


def _grams(words: list[str]) -> Numbers:
    """A number for every run of 3 to 5 characters of a word with a space before and after it. Each word is taken once:
    how often it is there, its own weight says already.
    """
    line = f" {'  '.join(words)} ".encode("utf-32-le")
    letters = np.frombuffer(line, "<u4").astype(np.uint64)
    found = [_runs(letters, length) for length in _GRAM_LENGTHS if len(letters) >= length]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)


def _runs(letters: Numbers, length: int) -> Numbers:
    count = len(letters) - length + 1
    # The length is in the number too, so that no long run is taken for a short one.
    runs = np.full(count, length, np.uint64)
    within = np.ones(count, bool)
    for place in range(length):
        column = letters[place : place + count]
        runs = runs * np.uint64(0x100000001B3) + column
        if 0 < place < length - 1:
            within &= column != _SPACE
    return runs[within]


def _spread(features: Numbers, weights: Floats, dimensions: int, salt: Numbers) -> Floats:
    """Each feature in a place and with a sign of its own; where two meet, they add up or take away."""
    mixed = features * np.uint64(_STEP) + salt
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_SECOND)
    mixed ^= mixed >> np.uint64(31)
    places = (mixed >> np.uint64(1)) % np.uint64(dimensions)
    signs = np.where(mixed & np.uint64(1), 1.0, -1.0)
    spread: Floats = np.bincount(places.astype(np.intp), weights * signs, dimensions).astype(np.float64)
    return spread


def _unit(vector: Floats) -> Floats:
    length = np.linalg.norm(vector)
    return vector / length if length else vector
