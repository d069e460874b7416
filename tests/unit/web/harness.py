"""The page over real mirrors, without a daemon or a network."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from syncd.config.sources import load
from syncd.service.build import Session, open_session
from syncd.service.runtime import Runtime, build_runtime
from syncd.web.app import WebApp
from syncd.web.history import RecentHistory
from syncd.web.view import StatusCache

NOW = 1_800_000_000.0
HERE = "http://127.0.0.1:8385"

CONFIG = """
state_dir = "state"
[cloudflare]
account_id = "0123456789abcdef0123456789abcdef"
api_token = "a-token-that-nobody-may-see"
base_url = "http://127.0.0.1:9/client/v4"
[mirrors.docs]
path = "docs"
[mirrors.docs.target]
type = "ai-search"
instance = "docs"
[mirrors.settings]
path = "settings"
[mirrors.settings.target]
type = "kv"
namespace_title = "settings"
"""


class Clock:
    """Seconds that the test moves."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Room:
    """The page, and an HTTP client for it. runtime is None during a reload."""

    def __init__(self, session: Session) -> None:
        self.clock = Clock()
        self.history = RecentHistory(self.clock)
        self.session = session
        runtime = build_runtime(session)
        self.workers, self.watcher = runtime.workers, runtime.watcher
        self.status = StatusCache()
        self.runtime = runtime
        for name, mirror in session.mirrors.items():
            mirror.on_action = self.history.listener(name)
        self.web = WebApp(self.history, self.status, "127.0.0.2")
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.web.asgi), base_url=HERE)

    @property
    def runtime(self) -> Runtime | None:
        """The objects at work."""
        return self.status.runtime

    @runtime.setter
    def runtime(self, runtime: Runtime | None) -> None:
        self.status.runtime = runtime

    def counted_by(self, clock: Callable[[], float]) -> StatusCache:
        """Return a new status, which this clock lets count. The page keeps the former one."""
        runtime = self.runtime
        self.status = StatusCache(clock)
        self.runtime = runtime
        return self.status

    async def ask(self, mirror: str, what: str, **values: str) -> httpx.Response:
        """Ask a question as the page does."""
        given = {"X-Syncd-Token": await self.token()}
        return await self.http.get(f"/mirrors/{mirror}/{what}", params=values, headers=given)

    async def press(self, mirror: str, what: str, **values: str) -> httpx.Response:
        """Press a button of the page."""
        return await self.http.post(
            f"/mirrors/{mirror}/{what}", json=values, headers={"X-Syncd-Token": await self.token()}
        )

    async def token(self) -> str:
        """Return the token that the page holds."""
        page = (await self.http.get("/")).text
        return page.partition('<meta name="syncd-token" content="')[2].partition('"')[0]


@asynccontextmanager
async def open_web_room(path: Path) -> AsyncIterator[Room]:
    """Yield a page over two mirrors, docs and settings. No loop works on them."""
    (path / "syncd.toml").write_text(CONFIG)
    for name in ("docs", "settings"):
        (path / name).mkdir()
    config = load(path / "syncd.toml", {"HOME": "/nonexistent"})
    async with open_session(config) as session:
        room = Room(session)
        try:
            yield room
        finally:
            await room.http.aclose()
