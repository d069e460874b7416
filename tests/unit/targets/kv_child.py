"""Makes one pass over the folder of the command line, with a remote that accepts everything and keeps nothing.

Prints the number of puts, the sizes of bodies, and the peak memory of this process in MB.
"""

import asyncio
import json
import resource
import sys
from pathlib import Path

import httpx

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.kv import KV
from syncd.cloudflare.transport import Transport
from syncd.core.plan import Policy
from syncd.core.rules import Rules
from syncd.service.build import build_mirror
from syncd.state.db import open_state
from syncd.sync.mirror import Scope, Settings
from syncd.sync.reconcile import reconcile
from syncd.targets.base import MirrorRecords
from syncd.targets.kv.target import KVTarget, NamespaceChoice, limits
from syncd.targets.kv.writing import ValueWritePolicy

NAMESPACE = "0" * 32


class Swallow(httpx.AsyncBaseTransport):
    """A remote that accepts every bulk write. Its listing is empty."""

    def __init__(self) -> None:
        self.bodies: list[int] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        size = 0
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for piece in request.stream:
            size += len(piece)
        result: object = {"id": NAMESPACE, "title": "docs"}
        if request.method == "PUT":
            self.bodies.append(size)
            result = {"successful_key_count": 1, "unsuccessful_keys": []}
        elif request.url.path.endswith("/keys"):
            result = []
        info = {"count": 0, "cursor": ""}
        body = {"success": True, "errors": [], "messages": [], "result": result, "result_info": info}
        return httpx.Response(200, json=body)


async def main(root: Path, state: Path) -> None:
    wire = Swallow()
    gate = Gate(0, 8)
    async with Transport(
        "http://127.0.0.1/client/v4", "0" * 32, Credentials.bearer("any"), gate, http=wire
    ) as transport:
        choice, most = NamespaceChoice(NAMESPACE), limits(128, 4 * 1024 * 1024)
        target = KVTarget(KV(transport), choice, ValueWritePolicy("me"), most, records=MirrorRecords())
        db = open_state(state)
        mirror = build_mirror(db, "me", root, target, Settings(Policy("me"), Rules()))
        result = await reconcile(mirror, Scope())
        db.close()
    sys.stdout.write(json.dumps({"put": result.done["put"], "bodies": wire.bodies, "peak_mb": peak_mb()}) + "\n")


def peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss begins with the memory of the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000_000


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
