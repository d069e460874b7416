"""A Vectorize index, read by an independent client: the id, numbers and metadata of every vector."""

import hashlib
import json
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import httpx
import numpy as np

from syncd.core.model import Content, Put
from syncd.emulator.workers_ai import embed
from syncd.targets.vectorize.index import RefMaker
from syncd.targets.vectorize.writing import KEY, OWNER, SHA256, TEXT, ChunkSettings, VectorWritePolicy, split_file
from tests.e2e.harness import ACCOUNT, TOKEN
from tests.torture.stormy_remote import PLACE, Far, Held

MODEL = "@cf/baai/bge-small-en-v1.5"
DIMENSIONS = 384
HOW = ChunkSettings(400, 50)
OURS = "storm"
"""The owner of the mirror."""
MADE_BY = f"{MODEL} mean"
"""The model and its pooling. The vectors of the stand-in depend on both."""
STRANGER = "stranger"
"""The metadata field with the key of the stranger's vectors."""
GET_LIMIT = 20
PATIENCE_S = 20.0


class FarVectorize(Far):
    """An index. A stranger's entry is one vector: without a mark under an id that nobody else makes, with a mark under
    the id that another mirror's file of this key has.
    """

    def __init__(self, base_url: str) -> None:
        self._http = httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
        indexes = f"{base_url}/accounts/{ACCOUNT}/vectorize/v2/indexes"
        self._index = f"{indexes}/{PLACE}"
        self._post(indexes, {"name": PLACE, "config": {"dimensions": DIMENSIONS, "metric": "cosine"}})
        self._post(f"{self._index}/metadata_index/create", {"propertyName": OWNER, "indexType": "string"})

    def put(self, key: str, data: bytes, owner: str | None) -> str:
        ref = _of_another(owner, key, data) if owner else f"vector {hashlib.sha256(key.encode()).hexdigest()[:40]}"
        metadata = {STRANGER: key, **({OWNER: owner, KEY: key} if owner else {}), TEXT: data.decode()}
        line = {"id": ref, "values": _numbers(data.decode()), "metadata": metadata}
        self._post(f"{self._index}/upsert", json.dumps(line).encode() + b"\n")
        self._until(key, ref, there=data)
        return ref

    def drop(self, key: str, ref: str) -> None:
        self._post(f"{self._index}/delete_by_ids", {"ids": [ref]})
        self._until(key, ref, there=None)

    def all(self) -> list[tuple[str, Held]]:
        ids: list[str] = []
        params = {"count": "1000"}
        while True:
            page = self._http.get(f"{self._index}/list", params=params).raise_for_status().json()["result"]
            ids += [row["id"] for row in page["vectors"]]
            if not page["isTruncated"]:
                break
            params["cursor"] = page["nextCursor"]
        slices = (ids[start : start + GET_LIMIT] for start in range(0, len(ids), GET_LIMIT))
        return [(_name(vector), Held(vector["id"], _seen(vector))) for part in slices for vector in self._read(part)]

    def one(self, key: str, ref: str) -> Held | None:
        del key
        return next((Held(ref, _seen(vector)) for vector in self._read([ref])), None)

    def entries_of(self, files: dict[str, bytes]) -> dict[str, bytes]:
        return {vector_id: seen for key, data in files.items() for vector_id, seen in _vectors_of(key, data).items()}

    def _read(self, ids: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._post(f"{self._index}/get_by_ids", {"ids": ids})
        return found

    def _until(self, key: str, ref: str, *, there: bytes | None) -> None:
        """Wait until a change of this client shows, because a later check must be able to miss it."""
        end = time.monotonic() + PATIENCE_S
        while (held.data if (held := self.one(key, ref)) else None) != there:
            if time.monotonic() > end:
                raise TimeoutError(f"the index does not show what was done to {ref}")
            time.sleep(0.02)

    def _post(self, url: str, body: Mapping[str, Any] | bytes) -> Any:
        kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self._http.post(url, content=content, headers={"Content-Type": kind})
        return answer.raise_for_status().json()["result"]


def _of_another(owner: str, key: str, data: bytes) -> str:
    made = _maker(owner).ref(key, hashlib.sha256(data).hexdigest(), 1)
    return made.ids()[0]


def _maker(owner: str) -> RefMaker:
    return RefMaker(f"{owner}\0", MADE_BY, HOW.name)


def _numbers(text: str) -> list[float]:
    return embed([text], DIMENSIONS, MADE_BY)[0]


@lru_cache(maxsize=8192)
def _vectors_of(key: str, data: bytes) -> dict[str, bytes]:
    """Return the ids of a file's vectors with their visible content."""
    checksum = hashlib.sha256(data).hexdigest()
    pieces = split_file(
        Put(key, "new", key, len(data)), Content(data, checksum), _maker(OURS), HOW, VectorWritePolicy(OURS)
    )
    return {
        piece.id: _shown({KEY: key, OWNER: OURS, SHA256: checksum, TEXT: piece.text}, _numbers(piece.text))
        for piece in pieces
    }


def _name(vector: Mapping[str, Any]) -> str:
    """Return the name of an entry: the key of a stranger's entry, and the id of all others."""
    return str(vector.get("metadata", {}).get(STRANGER, vector["id"]))


def _seen(vector: Mapping[str, Any]) -> bytes:
    metadata = vector.get("metadata", {})
    if STRANGER in metadata:
        return str(metadata[TEXT]).encode()
    return _shown({name: metadata.get(name) for name in (KEY, OWNER, SHA256, TEXT)}, vector["values"])


def _shown(metadata: Mapping[str, Any], values: list[float]) -> bytes:
    return json.dumps(metadata, sort_keys=True).encode() + np.array(values, np.float32).tobytes()
