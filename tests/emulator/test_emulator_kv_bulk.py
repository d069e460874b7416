import base64
import json
from typing import Any

import httpx
import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import serve
from tests.emulator.kv_world import ROOT, Kv, done, kv_world, pair

MAX_VALUE = 25 * 1024 * 1024


async def test_a_bulk_writes_every_pair_with_all_it_says() -> None:
    async with kv_world() as kv:
        end = int(kv.clock.now) + 500
        pairs = [
            pair("text", "é😀\x00"),
            pair("binary", base64.b64encode(b"\x00\xff").decode(), base64=True),
            pair("plain", "AAAA", base64=False, metadata=None, expiration=None, expiration_ttl=None, other=1),
            pair("dated", expiration=end, metadata={"n": 1}),
            pair("short", expiration=1, expiration_ttl=60),
            pair("a/b c\n"),
        ]
        assert await kv.write(pairs) == done(6)
        values = {"text": "é😀\x00".encode(), "binary": b"\x00\xff", "plain": b"AAAA", "a/b c\n": b"value"}
        for key, expected in values.items():
            assert await kv.value(key) == expected
        rows = {row["name"]: row for row in (await kv.page())[0]}
        assert rows["dated"] == {"name": "dated", "expiration": end, "metadata": {"n": 1}}
        assert rows["short"] == {"name": "short", "expiration": int(kv.clock.now) + 60}
        assert rows["plain"] == {"name": "plain"}


@pytest.mark.parametrize(
    "body", ['[\n{"key": "a", "value": "[,]\\"{\\\\"} ,\t{"value":"x","key":"b"}]\n', "[]", " [ ] "]
)
async def test_a_bulk_may_be_spaced_or_empty(body: str) -> None:
    async with kv_world() as kv:
        expected = json.loads(body)
        assert await kv.api.result("PUT", f"{kv.at}/bulk", content=body.encode()) == done(len(expected))
        for each in expected:
            assert await kv.value(each["key"]) == each["value"].encode()


BAD_PAIRS: list[tuple[Any, int]] = [
    ("text", 400),
    ({"value": "x"}, 400),
    ({"key": 1, "value": "x"}, 400),
    ({"key": "bad"}, 400),
    ({"key": "bad", "value": 1}, 400),
    ({"key": "bad", "value": None}, 400),
    (pair(""), 400),
    (pair("."), 400),
    (pair(".."), 400),
    (pair("k" * 513), 414),
    (pair("bad", "AAA", base64=True), 400),
    (pair("bad", "AA=A", base64=True), 400),
    (pair("bad", "é", base64=True), 400),
    (pair("bad", base64="yes"), 400),
    (pair("bad", base64=[]), 400),
    (pair("bad", expiration_ttl=59), 400),
    (pair("bad", expiration_ttl="60"), 400),
    (pair("bad", expiration_ttl=60.5), 400),
    (pair("bad", expiration_ttl=True), 400),
    (pair("bad", expiration=1_800_000_059), 400),
    (pair("bad", expiration=10**400), 400),
    (pair("bad", metadata="m" * 1023), 413),
    (pair("bad", "v" * (MAX_VALUE + 1)), 413),
    (pair("bad", "A" * (MAX_VALUE + 4), base64=True), 400),
]


@pytest.mark.parametrize(("bad", "status"), BAD_PAIRS)
async def test_one_bad_pair_spoils_the_bulk_and_is_named(bad: Any, status: int) -> None:
    async with kv_world() as kv:
        response = await kv.api.ask("PUT", f"{kv.at}/bulk", json=[pair("a"), bad, pair("b")])
        assert response.status_code == status
        error = response.json()["errors"][0]
        assert error["code"] == 10001
        assert error["message"].startswith("item 1")
        if isinstance(bad, dict) and bad.get("key") == "bad":
            assert '"bad"' in error["message"]
        assert await kv.names() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b'"a"',
        b"[",
        b"[]]",
        b"[] []",
        b"x[]",
        b"[]x",
        b"[}",
        b'[{"key":"a","value":"b"}',
        b'[{"key":"a","value":"b"},]',
        b'[,{"key":"a","value":"b"}]',
        b'[{"key":"a","value":"b"} {}]',
        b'[{"key":"a","value":"b"]}',
        b'[{"key":"a","value":"\xff"}]',
        b'[{"key":"a","value":"\\ud800"}]',
        b'[{"key":"\\ud800","value":""}]',
        b'[{"key":"a","value":"","metadata":"\\ud800"}]',
        b'[{"key":"a","value":"","metadata":NaN}]',
        b'[{"key":"a","value":"","metadata":' + b"[" * 100_000,
        b'[{"key":"a","value":"","metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
    ],
)
async def test_a_body_that_is_no_array_of_pairs_is_10001(body: bytes) -> None:
    async with kv_world() as kv:
        assert await kv.api.refusal("PUT", f"{kv.at}/bulk", content=body) == (400, 10001)
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/delete", content=body) == (400, 10001)
        assert await kv.names() == []


async def test_a_key_twice_is_folded_if_both_say_the_same_and_refused_if_not() -> None:
    async with kv_world() as kv:
        same = [pair("a", "b", metadata={"x": 1, "y": 2}), pair("a", "Yg==", base64=True, metadata={"y": 2, "x": 1})]
        assert await kv.write([*same, pair("c")]) == done(2)
        for other in (pair("a", "x"), pair("a", "b"), pair("a", "b", metadata={"x": 1, "y": 2}, expiration_ttl=60)):
            response = await kv.api.ask("PUT", f"{kv.at}/bulk", json=[same[0], pair("d"), other])
            assert response.status_code == 400
            assert response.json()["errors"][0]["code"] == 10001
            assert response.json()["errors"][0]["message"].endswith('"a"')
        assert await kv.names() == ["a", "c"]


async def test_a_bulk_has_at_most_10000_items() -> None:
    async with kv_world() as kv:
        keys = [str(number) for number in range(10_001)]
        assert await kv.write_refused([pair(key, "") for key in keys]) == (400, 10001)
        assert await kv.names() == []
        assert await kv.write([pair(key, "") for key in keys[:-1]]) == done(10_000)
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/delete", json=keys) == (400, 10001)
        assert len(await kv.names()) == 10_000
        assert await kv.drop(keys[:-1]) == done(10_000)
        assert await kv.names() == []


async def test_a_bulk_has_at_most_100_million_bytes() -> None:
    async with kv_world() as kv:
        whole = b'[{"key":"a","value":"x"}' + b" " * 99_999_975 + b"]"
        assert len(whole) == 100_000_000
        assert await kv.api.refusal("PUT", f"{kv.at}/bulk", content=whole + b" ") == (413, 10001)
        assert await kv.api.result("PUT", f"{kv.at}/bulk", content=whole) == done(1)


async def test_a_smaller_limit_of_the_body_is_an_option() -> None:
    async with kv_world(bulk_max_bytes=100) as kv:
        assert await kv.write([pair("a", "v" * 50)]) == done(1)
        assert await kv.write_refused([pair("b", "v" * 100)]) == (413, 10001)
        assert await kv.write_refused(["bad" * 50]) == (413, 10001)
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/delete", json=["k" * 100]) == (413, 10001)
        assert await kv.names() == ["a"]
        await kv.put("b", b"v" * 200)


@pytest.mark.parametrize(("method", "below"), [("POST", "/bulk/delete"), ("DELETE", "/bulk")])
async def test_a_bulk_deletes_in_both_forms_whether_or_not_the_keys_exist(method: str, below: str) -> None:
    async with kv_world() as kv:
        await kv.write([pair("a"), pair("é\n/b"), pair("c")])
        gone = ["a", "é\n/b", "never", "a"]
        assert await kv.api.result(method, kv.at + below, json=gone) == done(3)
        assert await kv.names() == ["c"]


@pytest.mark.parametrize(("bad", "status"), [(1, 400), ({"name": "c"}, 400), ("", 400), ("..", 400), ("k" * 513, 414)])
async def test_one_bad_key_spoils_a_bulk_delete(bad: Any, status: int) -> None:
    async with kv_world() as kv:
        await kv.put("a")
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/delete", json=["a", bad]) == (status, 10001)
        assert await kv.names() == ["a"]


async def test_a_share_of_the_keys_fails_is_named_and_may_succeed_again() -> None:
    async def rounds(kv: Kv) -> list[list[str]]:
        """What failed of 200 writes, again and again until nothing does; then the same with deletes."""
        left, failures = [f"key {number}" for number in range(200)], []
        for deleting in (False, True):
            while left:
                answer = await (kv.drop(left) if deleting else kv.write([pair(key) for key in left]))
                failed = answer["unsuccessful_keys"]
                assert answer == done(len(left) - len(failed), *sorted(failed))
                assert set(failed) <= set(left)
                shown = set(await kv.names())
                assert shown == (set(failed) if deleting else {f"key {n}" for n in range(200)} - set(failed))
                failures.append(failed)
                left = failed
            left = await kv.names()
        return failures

    async with kv_world(unsuccessful=0.3) as kv:
        first = await rounds(kv)
    async with kv_world(unsuccessful=0.3) as kv:
        assert await rounds(kv) == first
    assert 30 <= len(first[0]) <= 90
    assert len(first) > 4


async def test_no_key_or_every_key_may_fail() -> None:
    async with kv_world(unsuccessful=1) as kv:
        await kv.put("a", b"old")
        for _ in range(3):
            assert await kv.write([pair("b"), pair("a")]) == done(0, "a", "b")
            assert await kv.drop(["a"]) == done(0, "a")
        assert await kv.value("a") == b"old"


async def test_a_bulk_over_the_options_number_of_items_times_out_in_html() -> None:
    async with kv_world(bulk_fail_over=2) as kv:
        assert await kv.write([pair("a"), pair("b")]) == done(2)
        for method, below, body in (
            ("PUT", "/bulk", [pair("c"), pair("d"), pair("e")]),
            ("POST", "/bulk/delete", ["a", "b", "c"]),
            ("DELETE", "/bulk", ["a", "b", "c"]),
        ):
            response = await kv.api.ask(method, kv.at + below, json=body)
            assert response.status_code == 524
            assert response.headers["content-type"].startswith("text/html")
            assert "524" in response.text
        assert await kv.names() == ["a", "b"]


async def test_a_failed_bulk_write_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with kv_world(unsuccessful=0.5) as kv:
        store = kv.api.app.state.backend.store
        many = store.many

        def broken(sql: str, rows: Any) -> None:
            if "INSERT INTO kv_entries" in sql:
                raise RuntimeError("disk full, say")
            many(sql, rows)

        await kv.put("a", b"old")
        with monkeypatch.context() as patch:
            patch.setattr(store, "many", broken)
            assert await kv.write_refused([pair("a"), pair("b")]) == (500, 7001)
        assert await kv.value("a") == b"old"
        assert store.value("SELECT count(*) FROM kv_attempts") == 0


def test_a_too_large_bulk_is_answered_although_the_client_is_still_sending() -> None:
    with serve(EmulatorOptions(bulk_max_bytes=1000)) as server:
        at = f"{server.base_url}{ROOT}/{'0' * 32}/bulk"
        for content in (b"[" * 20_000_000, json.dumps([pair("a", "v" * 20_000_000)]).encode()):
            answer = httpx.put(at, headers={"Authorization": "Bearer token"}, content=content)
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (413, 10001)
