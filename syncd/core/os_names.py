"""Names between the operating system and the program: bytes on the disk, UTF-8 text in here, whatever the locale.

Python itself decodes names by the locale. So a key would depend on the environment of the process that makes it.
"""

import os
import sys

from syncd.core.keys import shown

_OS_IS_UTF8 = sys.getfilesystemencoding() == "utf-8"


def from_os(name: str | bytes) -> str:
    """A name from the operating system as UTF-8 text, whatever the locale; bytes that are not UTF-8 are surrogates."""
    if isinstance(name, str):
        if _OS_IS_UTF8:
            return name
        name = os.fsencode(name)
    return name.decode("utf-8", "surrogateescape")


def to_os(name: str) -> str:
    """The str that the operating system calls of this process take for a name; `from_os` undoes it."""
    return name if _OS_IS_UTF8 else os.fsdecode(to_bytes(name))


def to_bytes(name: str) -> bytes:
    """The bytes on the disk of a name that `from_os` gave."""
    return name.encode("utf-8", "surrogateescape")


def shown_path(path: object) -> str:
    """A path of this process, made safe like a name by `shown`."""
    return shown(from_os(str(path)))
