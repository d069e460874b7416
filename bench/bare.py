"""`python -m bench.bare URL FOLDER`: upload every file with eight requests in flight.

This is the lower limit of a first pass: the same HTTP library, no streamed bodies, no state, no checks, no retries.
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

IN_FLIGHT = 8
TOKEN = "bench"


async def main(url: str, root: Path, files: Iterator[Path]) -> None:
    """Upload all files. An unsuccessful answer ends the upload."""
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    client = httpx.AsyncClient(trust_env=False, timeout=30, limits=limits, headers=headers)
    async with client, asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(_upload(client, url, root, files))


async def _upload(client: httpx.AsyncClient, url: str, root: Path, files: Iterator[Path]) -> None:
    for file in files:
        # Separate keys, because syncd has uploaded the files under their own names.
        form = {"file": (f"bare/{file.relative_to(root)}", file.read_bytes(), "text/markdown")}
        message = client.build_request("POST", url, files=form)
        message.read()
        (await client.send(message)).raise_for_status()


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    asyncio.run(main(sys.argv[1], folder, iter(sorted(folder.rglob("*.md")))))
