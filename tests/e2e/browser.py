"""A real browser, controlled through the pipe of its DevTools protocol. Only the browser must be installed."""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE_S = 30.0


def browser_path() -> str | None:
    """Return the path of an installed browser, if any."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Moved(Exception):
    """The page could not answer, for example during a reload."""


class Browser:
    """A headless browser. It opens pages, and answers the commands that are sent to them."""

    def __init__(self, to: int, answers: int) -> None:
        self._to = to
        self._from = answers
        self._rest = b""
        self._numbers = itertools.count(1)

    def call(self, method: str, params: dict[str, Any], session: str | None, events: list[dict[str, Any]]) -> Any:
        """Send a command and return its result. Events of the session that arrive meanwhile are added to `events`."""
        message: dict[str, Any] = {"id": next(self._numbers), "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise Moved(answer["error"])
                return answer["result"]
            if answer.get("sessionId") == session:
                events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], PATIENCE_S)
            assert ready, "the browser does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    @contextmanager
    def page(self) -> Iterator["Page"]:
        """Open a page within the block. It shares no cookies, no storage and no cache with other pages."""
        context = self.call("Target.createBrowserContext", {}, None, [])["browserContextId"]
        try:
            target = {"url": "about:blank", "browserContextId": context}
            opened = {"targetId": self.call("Target.createTarget", target, None, [])["targetId"], "flatten": True}
            yield Page(self, self.call("Target.attachToTarget", opened, None, [])["sessionId"])
        finally:
            self.call("Target.disposeBrowserContext", {"browserContextId": context}, None, [])


class Page:
    """One page of a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer. Events that arrive meanwhile are added to `events`."""
        result: dict[str, Any] = self._browser.call(method, params, self._session, self.events)
        return result

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """Return the text of an element; "" if it is missing, or while the page loads itself again."""
        try:
            return str(self.run(f"document.querySelector({selector!r})?.innerText ?? ''"))
        except Moved:
            return ""

    def until(self, script: str) -> None:
        """Wait until an expression in the page is true."""
        end = time.monotonic() + PATIENCE_S
        while not self._so(script):
            assert time.monotonic() < end, f"not so: {script}: {self.run('document.body.innerText')}"
            time.sleep(0.05)

    def _so(self, script: str) -> bool:
        try:
            return bool(self.run(f"Boolean({script})"))
        except Moved:
            return False

    def size(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def scheme(self, name: str) -> None:
        """Prefer "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def picture(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def complaints(self) -> list[str]:
        """Return the errors of the page so far: exceptions, console errors, refusals of the content security policy."""
        self.run("0")
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(json.dumps(params["args"]))
        return found

    def requested(self) -> list[str]:
        """Return every URL that the page has requested."""
        self.run("0")
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]


@contextmanager
def open_browser(program: str, profile: Path) -> Iterator[Browser]:
    """Run a browser with an empty profile within the block."""
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--no-proxy-server",
        "--hide-scrollbars",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
    ]
    reading, to = _pipe()
    answers, writing = _pipe()
    actions = [(os.POSIX_SPAWN_OPEN, each, os.devnull, os.O_RDWR, 0) for each in (0, 1, 2)]
    # The protocol fixes these descriptors: the browser reads from 3 and writes to 4.
    ends = [(os.POSIX_SPAWN_DUP2, reading, 3), (os.POSIX_SPAWN_DUP2, writing, 4)]
    env = {"PATH": os.environ["PATH"], "HOME": str(profile), "LANG": "C.UTF-8"}
    pid = os.posix_spawn(program, [program, *options, "about:blank"], env, file_actions=[*actions, *ends])
    os.close(reading)
    os.close(writing)
    try:
        yield Browser(to, answers)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(to)
        os.close(answers)


def _pipe() -> tuple[int, int]:
    """Return a pipe with descriptors above those that the protocol uses."""
    reading, writing = os.pipe()
    high = (fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, 10), fcntl.fcntl(writing, fcntl.F_DUPFD_CLOEXEC, 10))
    os.close(reading)
    os.close(writing)
    return high
