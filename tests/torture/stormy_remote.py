"""The content of the target, read and changed by an independent client without faults."""

import json
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

import httpx

from tests.e2e.harness import ACCOUNT, TOKEN, Remote
from tests.torture.stormy_folder import CONTESTED

PLACE = "docs"
OWNERS = (None, "somebody")


@dataclass(frozen=True, slots=True)
class Held:
    """One entry: its id and its bytes."""

    ref: str
    data: bytes


class Far(ABC):
    """The content of a target."""

    _http: httpx.Client

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @abstractmethod
    def put(self, key: str, data: bytes, owner: str | None) -> str:
        """Write an entry with or without a mark. Return its id."""

    @abstractmethod
    def drop(self, key: str, ref: str) -> None:
        """Delete an entry."""

    @abstractmethod
    def all(self) -> list[tuple[str, Held]]:
        """Return every entry."""

    @abstractmethod
    def one(self, key: str, ref: str) -> Held | None:
        """Return one entry, or None."""

    def entries_of(self, files: dict[str, bytes]) -> dict[str, bytes]:
        """Return the entries of files by key: the files themselves, unless the target stores a derived form."""
        return files


class FarAISearch(Far):
    """An AI Search instance, created as syncd creates it."""

    def __init__(self, base_url: str) -> None:
        self._remote = Remote(base_url, PLACE)
        self._http = self._remote._http
        self._items = self._remote._items
        fields = [{"field_name": name, "data_type": "text"} for name in ("sha256", "owner")]
        made = {"id": PLACE, "custom_metadata": fields}
        self._http.post(self._remote._instances, json=made).raise_for_status()

    def put(self, key: str, data: bytes, owner: str | None) -> str:
        return self._remote.upload(key, data, **({"owner": owner} if owner else {}))

    def drop(self, key: str, ref: str) -> None:
        if (held := self.one(key, ref)) is not None:
            self._remote.delete(held.ref)

    def all(self) -> list[tuple[str, Held]]:
        items = [(item["key"], item["id"]) for item in self._remote.items()]
        return [(key, held) for key, ref in items if (held := self.one(key, ref))]

    def one(self, key: str, ref: str) -> Held | None:
        del key
        got = self._http.get(f"{self._items}/{ref}/download")
        return None if got.status_code == 404 else Held(ref, got.raise_for_status().content)


class FarKV(Far):
    """A KV namespace."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
        namespaces = f"{base_url}/accounts/{ACCOUNT}/storage/kv/namespaces"
        made = self._http.post(namespaces, json={"title": PLACE}).raise_for_status().json()
        self._place = f"{namespaces}/{made['result']['id']}"

    def _value(self, key: str) -> str:
        return f"{self._place}/values/{quote(key, safe='')}"

    def put(self, key: str, data: bytes, owner: str | None) -> str:
        parts: dict[str, Any] = {"value": (None, data)}
        if owner:
            parts["metadata"] = (None, json.dumps({"owner": owner}))
        self._http.put(self._value(key), files=parts).raise_for_status()
        return key

    def drop(self, key: str, ref: str) -> None:
        del ref
        self._http.delete(self._value(key)).raise_for_status()

    def all(self) -> list[tuple[str, Held]]:
        names: list[str] = []
        cursor = ""
        while True:
            params = {"cursor": cursor} if cursor else {}
            page = self._http.get(f"{self._place}/keys", params=params).raise_for_status().json()
            names += [row["name"] for row in page["result"]]
            cursor = page["result_info"]["cursor"]
            if not cursor:
                return [(name, held) for name in names if (held := self.one(name, name))]

    def one(self, key: str, ref: str) -> Held | None:
        got = self._http.get(self._value(key))
        return None if got.status_code == 404 else Held(ref, got.raise_for_status().content)


@dataclass(slots=True)
class Stranger:
    """Another writer in the same target. held: its entries. touched: entries that someone else changed.

    He holds his contested keys from before the first pass: against one who comes between a listing and a write nothing
    helps but a remote with conditional requests.
    """

    far: Far
    chance: Random
    held: dict[str, Held] = field(default_factory=dict)
    touched: int = 0
    _made: int = 0

    def settle_in(self) -> None:
        for key in (*CONTESTED, *(f"stranger/old {number}.md" for number in range(5))):
            self._put(key)

    def step(self) -> None:
        """Write a new entry, or replace or delete one of its own."""
        own = sorted(self.held.keys() - set(CONTESTED))
        if not own or self.chance.random() < 0.4:
            self._made += 1
            self._put(f"stranger/new {self._made}.md")
            return
        key = self.chance.choice(own)
        held = self.held.pop(key)
        self.touched += self.far.one(key, held.ref) != held
        self.far.drop(key, held.ref)
        if self.chance.random() < 0.5:
            self._put(key)

    def _put(self, key: str) -> None:
        data = self.chance.randbytes(self.chance.randint(1, 200)).hex().encode()
        self.held[key] = Held(self.far.put(key, data, self.chance.choice(OWNERS)), data)


@dataclass(frozen=True, slots=True)
class Difference:
    """The keys that differ between target and folder. touched: keys of the stranger."""

    lost: list[str]
    left_over: list[str]
    duplicated: list[str]
    touched: list[str]

    def __bool__(self) -> bool:
        return bool(self.lost or self.left_over or self.duplicated or self.touched)


def compare(files: dict[str, bytes], stranger: Stranger) -> Difference:
    """Compare every entry byte for byte. A key of the stranger stays the stranger's, also if the folder has the key."""
    wanted = stranger.far.entries_of(files)
    there = stranger.far.all()
    found = dict(there)
    foreign = stranger.held
    return Difference(
        [key for key, data in wanted.items() if key not in foreign and (key not in found or found[key].data != data)],
        [key for key in found if key not in wanted and key not in foreign],
        [key for key, count in Counter(key for key, _ in there).items() if count > 1],
        [key for key, held in foreign.items() if found.get(key) != held],
    )
