"""The S3 stand-in of the bench: what it answers, and that it is as far away as it is told to be."""

import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from bench.s3 import MTIME, PAGE, Bucket


class Workspace:
    """A bucket, its client, and the waits it asked for."""

    def __init__(self, latency: float = 0.0) -> None:
        self.waited: list[float] = []
        self.bucket = Bucket(latency, sleep=self._wait)
        transport = httpx.ASGITransport(app=self.bucket)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://bucket")

    async def _wait(self, seconds: float) -> None:
        self.waited.append(seconds)

    async def keys(self, **params: str) -> tuple[list[str], str]:
        """The keys of a page of the listing, and where the next one begins."""
        answer = (await self.client.get("/bench", params=params)).raise_for_status().text
        following = re.findall("<NextMarker>(.*?)</NextMarker>", answer)
        assert f"<IsTruncated>{str(bool(following)).lower()}<" in answer
        return re.findall("<Key>(.*?)</Key>", answer), "".join(following)


@pytest.fixture
async def here() -> AsyncIterator[Workspace]:
    workspace = Workspace()
    async with workspace.client:
        yield workspace


async def test_an_object_is_known_by_size_checksum_and_time(here: Workspace) -> None:
    assert (await here.client.head("/bench/a/b.md")).status_code == 404
    stored = await here.client.put("/bench/a/b.md", content=b"text", headers={MTIME: "17.5"})
    etag = f'"{hashlib.md5(b"text", usedforsecurity=False).hexdigest()}"'
    assert (stored.status_code, stored.headers["etag"]) == (200, etag)
    seen = (await here.client.head("/bench/a/b.md")).headers
    assert (seen["content-length"], seen["etag"], seen[MTIME]) == ("4", etag, "17.5")
    assert await here.keys() == (["a/b.md"], "")


async def test_names_are_decoded_and_escaped(here: Workspace) -> None:
    await here.client.put("/bench/a%20%26%20b%3Cc.md", content=b"")
    assert await here.keys() == (["a &amp; b&lt;c.md"], "")


@pytest.mark.parametrize(("number", "pages"), [(PAGE - 1, 1), (PAGE, 1), (PAGE + 1, 2), (2 * PAGE, 2)])
@pytest.mark.parametrize("after", ["marker", "continuation-token"])
async def test_all_pages_together_are_all_keys(
    here: Workspace, tmp_path: Path, number: int, pages: int, after: str
) -> None:
    for at in range(number):
        (tmp_path / f"{at:04d}").touch()
    here.bucket.hold(tmp_path)
    found, following = await here.keys()
    count = 1
    while following:
        more, following = await here.keys(**{after: following})
        found += more
        count += 1
    assert (found, count) == ([f"{at:04d}" for at in range(number)], pages)


async def test_keys_before_a_prefix_do_not_hide_those_that_have_it(here: Workspace, tmp_path: Path) -> None:
    for at in range(PAGE):
        (tmp_path / f"b!{at:04d}").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1").touch()
    here.bucket.hold(tmp_path)
    assert await here.keys(prefix="b/") == (["b/1"], "")


async def test_a_prefix_selects(here: Workspace) -> None:
    for key in ("a/1", "b/1", "b/2", "bb", "c/1"):
        await here.client.put(f"/bench/{key}", content=b"")
    assert await here.keys(prefix="b/", delimiter="") == (["b/1", "b/2"], "")
    assert await here.keys(prefix="d") == ([], "")
    assert (await here.keys())[0] == ["a/1", "b/1", "b/2", "bb", "c/1"]


@pytest.mark.parametrize(
    ("method", "url", "headers"),
    [
        ("DELETE", "/bench/a", {}),
        ("GET", "/bench/a", {}),
        ("PUT", "/other/a", {}),
        ("PUT", "/bench/a", {"x-amz-copy-source": "/bench/b"}),
        ("PUT", "/bench/a", {"x-amz-trailer": "x-amz-checksum-crc32"}),
        ("GET", "/bench?delimiter=%2F", {}),
    ],
)
async def test_what_it_does_not_know_is_refused_aloud(
    here: Workspace, method: str, url: str, headers: dict[str, str]
) -> None:
    answer = await here.client.request(method, url, headers=headers, content=b"x" if method == "PUT" else None)
    assert answer.status_code == 501
    assert not here.bucket.objects


async def test_every_answer_is_as_far_away_as_it_is_told_to_be() -> None:
    workspace = Workspace(latency=50.0)
    async with workspace.client:
        await workspace.client.put("/bench/a", content=b"x")
        await workspace.client.head("/bench/none")
        await workspace.keys()
    assert len(workspace.waited) == 3
    # Its own work, of milliseconds, is part of the latency.
    assert all(45 < seconds < 50 for seconds in workspace.waited)


async def test_without_latency_nothing_is_waited_for(here: Workspace) -> None:
    await here.keys()
    assert here.waited == []
