"""`python -m bench.s3 [--latency S] [--holds FOLDER]`: serve the part of S3 that rclone needs, on loopback.

The comparison is fair, because the HTTP server and the latency are those of the stand-in of syncd. The server keeps
size, checksum and times of an object, but not its content. It prints its URL when it is ready.
"""

import argparse
import asyncio
import hashlib
import socket
import time
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote
from xml.sax.saxutils import escape

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from syncd.emulator.server import TIMER_S

BUCKET = "bench"
PAGE = 1_000
MTIME = "x-amz-meta-mtime"
"""The header in which rclone stores the modification time of a file."""
_XML = '<?xml version="1.0" encoding="UTF-8"?>'


@dataclass(frozen=True, slots=True)
class Object:
    """The data of an object. etag: MD5 in hex. stored: Unix time. mtime: the text that rclone sent."""

    size: int
    etag: str
    stored: float
    mtime: str | None = None


class Bucket:
    """An ASGI application with PUT, HEAD and the listing of one bucket. It answers 501 to every other request.

    latency: the minimum of seconds from a request to its answer. It includes the work of the server.
    """

    def __init__(self, latency: float = 0.0, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.objects: dict[str, Object] = {}
        self._sorted: list[str] = []
        self._latency = latency
        self._sleep = sleep

    def hold(self, root: Path) -> None:
        """Add every file below a folder as an object that was stored now."""
        for file in root.rglob("*"):
            if file.is_file():
                self._store(file.relative_to(root).as_posix(), file.read_bytes(), None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.monotonic()
        request = Request(scope, receive)
        response = await self._answer(request)
        left = self._latency - (time.monotonic() - began) - TIMER_S
        if left > 0:
            await self._sleep(left)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        bucket, _, key = unquote(request.url.path).removeprefix("/").partition("/")
        if bucket != BUCKET or request.query_params.get("delimiter") or "x-amz-copy-source" in request.headers:
            return Response(status_code=501)
        match request.method, bool(key):
            case "PUT", True if "content-length" in request.headers and "x-amz-trailer" not in request.headers:
                stored = self._store(key, await request.body(), request.headers.get(MTIME))
                return Response(headers={"ETag": f'"{stored.etag}"'})
            case "HEAD", True:
                return self._head(key)
            case "GET", False:
                return self._list(request)
            case "PUT", False:
                return Response()
        return Response(status_code=501)

    def _store(self, key: str, content: bytes, mtime: str | None) -> Object:
        if key not in self.objects:
            self._sorted = []
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        self.objects[key] = stored = Object(len(content), etag, time.time(), mtime)
        return stored

    def _head(self, key: str) -> Response:
        if key not in self.objects:
            return Response(status_code=404)
        found = self.objects[key]
        known = {
            "ETag": f'"{found.etag}"',
            "Content-Length": str(found.size),
            "Last-Modified": formatdate(found.stored, usegmt=True),
        }
        return Response(headers=known | ({MTIME: found.mtime} if found.mtime is not None else {}))

    def _list(self, request: Request) -> Response:
        """Return a page of either version of the listing. rclone uses the first version for an unknown server."""
        if not self._sorted:
            self._sorted = sorted(self.objects)
        asked = request.query_params
        prefix, after = asked.get("prefix", ""), asked.get("continuation-token", asked.get("marker", ""))
        start = max(bisect_left(self._sorted, prefix), bisect_right(self._sorted, after) if after else 0)
        keys = self._sorted[start : start + PAGE + 1]
        page = [key for key in keys[:PAGE] if key.startswith(prefix)]
        more = len(keys) > PAGE and len(page) == PAGE
        rows = "".join(self._row(key) for key in page)
        last = escape(page[-1]) if more else ""
        following = (
            f"<NextMarker>{last}</NextMarker><NextContinuationToken>{last}</NextContinuationToken>" if more else ""
        )
        state = f"<Name>{BUCKET}</Name><IsTruncated>{str(more).lower()}</IsTruncated>{following}"
        return Response(f"{_XML}<ListBucketResult>{state}{rows}</ListBucketResult>", media_type="application/xml")

    def _row(self, key: str) -> str:
        found = self.objects[key]
        stored = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(found.stored))
        return (
            f"<Contents><Key>{escape(key)}</Key><LastModified>{stored}</LastModified>"
            f'<ETag>"{found.etag}"</ETag><Size>{found.size}</Size><StorageClass>STANDARD</StorageClass></Contents>'
        )


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.s3", description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--holds", type=Path, help="a folder whose files are the bucket's first objects")
    chosen = parser.parse_args()
    bucket = Bucket(chosen.latency)
    if chosen.holds:
        bucket.hold(chosen.holds)
    # asyncio sets TCP_NODELAY only on sockets with this protocol number. Without it an answer may take 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        # From here on connections are accepted. They wait until the server runs.
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        config = uvicorn.Config(
            bucket,
            http="auto",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            timeout_keep_alive=75,
        )
        uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main()
