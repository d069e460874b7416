"""Converts the files of `convert` to Markdown before they are sent, and checks those of `as_text` (core/names.py)."""

import sys
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from syncd.core.errors import Park, Retry
from syncd.core.model import Content
from syncd.core.plain_text import decode
from syncd.core.problems import Limits

PACKAGE = "kreuzberg"
CONVERT_REMEDY = "pip install 'syncd[convert]'"


def converter_version() -> str | None:
    """Return the version of the converter, None if the extra `convert` is not installed."""
    return _version(PACKAGE)


@cache
def _version(package: str) -> str | None:
    # The search for a package takes longer than the conversion of a small file. One that is installed later needs a new
    # start anyway, because the mirrors are built with this version.
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def converter_name() -> str:
    """Return the converter as a part of the checksums of converted files, such as kreuzberg-4.10.4."""
    return f"{PACKAGE}-{converter_version() or 'missing'}"


def close() -> None:
    """End the processes that convert files, so that no thread waits for them."""
    if loaded := sys.modules.get("syncd.text.converter"):
        loaded.converter.close()


def converted(key: str, content: Content, limits: Limits) -> Content:
    """Return a file as it is sent. Blocks while the file is converted, if its form is `convert`.

    Raises Park if the file cannot be converted, if its text cannot be sent, or if a file of `as_text` is no text, and
    Retry if the extra `convert` is not installed.
    """
    form = limits.forms.of(key)
    if form == "text":
        _check_text(content.data)
    if form != "convert":
        return content
    if converter_version() is None:
        # Retry, because a parked file would be retried only after a change of the file.
        raise Retry(f"converting documents needs the extra 'convert': {CONVERT_REMEDY}, then start syncd again")
    # Imported late, because few folders contain documents.
    from syncd.text.converter import converter

    text = converter.document(key.rpartition("/")[2], content.data)
    if problem := limits.refuse_converted(key, len(text)):
        raise Park(problem.kind, problem.message)
    return replace(content, data=text)


def _check_text(data: bytes) -> None:
    """Raise Park if a file is no text. A search would find its bytes as words."""
    try:
        # The target reads other encodings as far as it can.
        decode(data, errors="replace")
    except ValueError as error:
        raise Park("unsupported_type", f"the file is named in as_text, but {error} to send it, or exclude it") from None
