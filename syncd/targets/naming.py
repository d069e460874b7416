"""What a target calls a key, and whose key a name stands for."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from syncd.core.limits import Limits
from syncd.core.short_names import fits, full_key, looks_shortened, remote_name


@dataclass(frozen=True, slots=True)
class Names:
    """Where keys may be found. recorded: those of the journal. walked: those of the folder, found slowly."""

    recorded: Callable[[], Iterable[str]] = tuple
    walked: Callable[[], Iterable[str]] = tuple


NOWHERE = Names()


class Naming:
    """Shortens names if the limits say so. Names that were shortened are understood in any case."""

    def __init__(self, limits: Limits, names: Names = NOWHERE) -> None:
        self._limits = limits
        self._names = names
        self._known: dict[str, str] | None = None

    def name(self, key: str) -> str:
        """What the entry of this key is called, or would be."""
        if self._limits.long_key_length is None:
            return key
        return remote_name(key, self._limits.max_key_length, self._limits.max_key_bytes)

    def key(self, name: str, said: object) -> str:
        """Whose name this is. said: the full key by the entry's own metadata; believed if the name proves it."""
        return full_key(name, said)

    def unproved(self, name: str, key: str) -> bool:
        """Whether an entry that was taken to be of `key` may have a shortened name, and did not say of which."""
        return name == key and looks_shortened(name)

    async def known(self, name: str) -> str:
        """The key of the journal or the folder that has this name, where the entry itself does not say; else the name.

        So an entry whose metadata was lost is neither a stranger's nor the leaving of a deleted file.
        """
        if self._known is None:
            recorded = self._called(self._names.recorded())
            self._known = await asyncio.to_thread(lambda: self._called(self._names.walked())) | recorded
        return self._known.get(name, name)

    def forget(self) -> None:
        """A new listing begins: files and records may be others by now."""
        self._known = None

    def _called(self, keys: Iterable[str]) -> dict[str, str]:
        most = self._limits.max_key_length, self._limits.max_key_bytes
        return {remote_name(key, *most): key for key in keys if not fits(key, *most)}
