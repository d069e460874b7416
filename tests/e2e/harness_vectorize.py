"""A mirror with a Vectorize index, run by the real program, and an independent computation of its vector ids."""

import hashlib
from pathlib import Path
from typing import Any

import httpx

from syncd.core.errors import Park
from syncd.core.model import Content, Put
from syncd.targets.vectorize.index import RefMaker
from syncd.targets.vectorize.writing import ChunkSettings, VectorWritePolicy, split_file
from tests.e2e.harness import ACCOUNT, PATIENCE_S, TOKEN, Workspace, until

SMALL = "@cf/baai/bge-small-en-v1.5"
"""A model of 384 dimensions."""
HOW = ChunkSettings(400, 50)


class VectorIndex:
    """The index of the only mirror of a workspace. model: the model in the present config."""

    def __init__(self, workspace: Workspace, model: str = SMALL) -> None:
        self.workspace = workspace
        self.model = model
        self._at = f"{workspace.server.base_url}/accounts/{ACCOUNT}/vectorize/v2/indexes"
        self._http = httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE_S, verify=False)
        self.use(model)

    def close(self) -> None:
        self._http.close()

    def use(self, model: str, mirror: str = "", cloudflare: str = "") -> None:
        """Write the config for this model. The other arguments are lines of its sections."""
        self.model = model
        self.workspace.config.write_text(
            f'state_dir = "{self.workspace.state}"\n'
            f'[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{self.workspace.server.base_url}"\n'
            f"quota = ''\ntpslimit = 0\nretry_for = 5\n{cloudflare}\n"
            f'[mirrors.docs]\npath = "{self.workspace.docs}"\nowner = "docs"\n'
            f"settle = 0.05\ndelete_after = 0\n{mirror}\n"
            f'[mirrors.docs.target]\ntype = "vectorize"\nindex = "docs"\ncreate = true\nmodel = "{model}"\n'
            f"chunk_size = {HOW.size}\nchunk_overlap = {HOW.overlap}\n"
        )

    def make(self, dimensions: int) -> None:
        """Create the index without syncd."""
        body = {"name": "docs", "config": {"dimensions": dimensions, "metric": "cosine"}}
        self._http.post(self._at, json=body).raise_for_status()

    def ids(self) -> list[str]:
        """Return all listed ids in order, none if the index is missing."""
        found: list[str] = []
        params: dict[str, str] = {"count": "1000"}
        while True:
            answer = self._http.get(f"{self._at}/docs/list", params=params)
            if answer.status_code in {404, 410}:
                return []
            page: dict[str, Any] = answer.raise_for_status().json()["result"]
            found += [row["id"] for row in page["vectors"]]
            if not page["isTruncated"]:
                return sorted(found)
            params["cursor"] = page["nextCursor"]

    def drop(self, *ids: str) -> None:
        """Delete vectors without syncd."""
        self._http.post(f"{self._at}/docs/delete_by_ids", json={"ids": list(ids)}).raise_for_status()

    def expected(self) -> list[str]:
        """Return the ids that the folder should have, in order."""
        # Defaults of syncd: the mirror's name as its owner, and the pooling of the English bge models.
        pooling = "mean" if "-en-" in self.model else "default"
        made = RefMaker("docs\0", f"{self.model} {pooling}", HOW.name)
        found: list[str] = []
        for file in sorted(path for path in self.workspace.docs.rglob("*") if path.is_file()):
            data = file.read_bytes()
            put = Put(_key(self.workspace.docs, file), "new", file.name, len(data))
            try:
                pieces = split_file(
                    put, Content(data, hashlib.sha256(data).hexdigest()), made, HOW, VectorWritePolicy("docs")
                )
            except Park:
                continue
            found += [piece.id for piece in pieces]
        return sorted(found)

    def in_step(self) -> None:
        """Wait until the index has exactly the ids of the folder."""
        until(lambda: self.ids() == self.expected(), self._difference, every_s=0.1)

    def embedded(self) -> int:
        """Return the number of texts embedded since the last reset of the counters."""
        count: int = self.workspace.remote.counted()["embedded_texts"]
        return count

    def _difference(self) -> str:
        here, there = set(self.expected()), set(self.ids())
        return f"missing: {sorted(here - there)}; too much: {sorted(there - here)}"


def _key(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix()
