import base64
import json
from typing import Any

import httpx
import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import serve
from tests.emulator.harness import KV_ROOT, KVClient, done, kv_emulator, pair

MAX_VALUE = 25 * 1024 * 1024


async def test_a_bulk_write_stores_every_field_of_every_pair() -> None:
    async with kv_emulator() as kv:
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
async def test_a_bulk_may_be_empty_or_contain_white_space(body: str) -> None:
    async with kv_emulator() as kv:
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
async def test_one_invalid_pair_refuses_the_whole_bulk_and_is_named(bad: Any, status: int) -> None:
    async with kv_emulator() as kv:
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
async def test_a_body_other_than_an_array_of_pairs_is_10001(body: bytes) -> None:
    async with kv_emulator() as kv:
        assert await kv.api.refusal("PUT", f"{kv.at}/bulk", content=body) == (400, 10001)
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/delete", content=body) == (400, 10001)
        assert await kv.names() == []


async def test_a_repeated_key_is_accepted_only_with_equal_pairs() -> None:
    async with kv_emulator() as kv:
        same = [pair("a", "b", metadata={"x": 1, "y": 2}), pair("a", "Yg==", base64=True, metadata={"y": 2, "x": 1})]
        assert await kv.write([*same, pair("c")]) == done(2)
        for other in (pair("a", "x"), pair("a", "b"), pair("a", "b", metadata={"x": 1, "y": 2}, expiration_ttl=60)):
            response = await kv.api.ask("PUT", f"{kv.at}/bulk", json=[same[0], pair("d"), other])
            assert response.status_code == 400
            assert response.json()["errors"][0]["code"] == 10001
            assert response.json()["errors"][0]["message"].endswith('"a"')
        assert await kv.names() == ["a", "c"]


async def test_a_bulk_has_at_most_10000_items() -> None:
    async with kv_emulator() as kv:
        keys = [str(number) for number in range(10_001)]
        assert await kv.write_refused([pair(key, "") for key in keys]) == (400, 10001)
        assert await kv.names() == []
        assert await kv.write([pair(key, "") for key in keys[:-1]]) == done(10_000)
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/delete", json=keys) == (400, 10001)
        assert len(await kv.names()) == 10_000
        assert await kv.drop(keys[:-1]) == done(10_000)
        assert await kv.names() == []


async def test_a_bulk_has_at_most_100_million_bytes() -> None:
    async with kv_emulator() as kv:
        whole = b'[{"key":"a","value":"x"}' + b" " * 99_999_975 + b"]"
        assert len(whole) == 100_000_000
        assert await kv.api.refusal("PUT", f"{kv.at}/bulk", content=whole + b" ") == (413, 10001)
        assert await kv.api.result("PUT", f"{kv.at}/bulk", content=whole) == done(1)


async def test_an_option_reduces_the_limit_of_the_body() -> None:
    async with kv_emulator(bulk_max_bytes=100) as kv:
        assert await kv.write([pair("a", "v" * 50)]) == done(1)
        assert await kv.write_refused([pair("b", "v" * 100)]) == (413, 10001)
        assert await kv.write_refused(["bad" * 50]) == (413, 10001)
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/delete", json=["k" * 100]) == (413, 10001)
        assert await kv.names() == ["a"]
        await kv.put("b", b"v" * 200)


@pytest.mark.parametrize(("method", "below"), [("POST", "/bulk/delete"), ("DELETE", "/bulk")])
async def test_both_forms_of_a_bulk_delete_accept_unknown_keys(method: str, below: str) -> None:
    async with kv_emulator() as kv:
        await kv.write([pair("a"), pair("é\n/b"), pair("c")])
        gone = ["a", "é\n/b", "never", "a"]
        assert await kv.api.result(method, kv.at + below, json=gone) == done(3)
        assert await kv.names() == ["c"]


@pytest.mark.parametrize(("bad", "status"), [(1, 400), ({"name": "c"}, 400), ("", 400), ("..", 400), ("k" * 513, 414)])
async def test_one_invalid_key_refuses_the_whole_bulk_delete(bad: Any, status: int) -> None:
    async with kv_emulator() as kv:
        await kv.put("a")
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/delete", json=["a", bad]) == (status, 10001)
        assert await kv.names() == ["a"]


async def test_a_share_of_the_keys_fails_and_a_retry_may_succeed() -> None:
    async def rounds(kv: KVClient) -> list[list[str]]:
        """Return the failed keys of 200 writes, repeated until none fails, then of 200 deletes."""
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

    async with kv_emulator(unsuccessful=0.3) as kv:
        first = await rounds(kv)
    async with kv_emulator(unsuccessful=0.3) as kv:
        assert await rounds(kv) == first
    assert 30 <= len(first[0]) <= 90
    assert len(first) > 4


async def test_the_share_of_failing_keys_may_be_0_or_1() -> None:
    async with kv_emulator(unsuccessful=1) as kv:
        await kv.put("a", b"old")
        for _ in range(3):
            assert await kv.write([pair("b"), pair("a")]) == done(0, "a", "b")
            assert await kv.drop(["a"]) == done(0, "a")
        assert await kv.value("a") == b"old"


async def test_a_bulk_of_too_many_items_for_the_option_times_out_in_html() -> None:
    async with kv_emulator(bulk_fail_over=2) as kv:
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
    async with kv_emulator() as kv:
        store = kv.api.app.backend.store
        many = store.executemany

        def broken(sql: str, rows: Any) -> None:
            if "INSERT INTO kv_entries" in sql:
                raise RuntimeError("disk full, say")
            many(sql, rows)

        await kv.put("a", b"old")
        with monkeypatch.context() as patch:
            patch.setattr(store, "executemany", broken)
            assert await kv.write_refused([pair("a"), pair("b")]) == (500, 7001)
        assert await kv.value("a") == b"old"


def test_a_too_large_bulk_is_answered_although_the_client_is_still_sending() -> None:
    with serve(EmulatorOptions(bulk_max_bytes=1000)) as server:
        at = f"{server.base_url}{KV_ROOT}/{'0' * 32}/bulk"
        for content in (b"[" * 20_000_000, json.dumps([pair("a", "v" * 20_000_000)]).encode()):
            answer = httpx.put(at, headers={"Authorization": "Bearer token"}, content=content, verify=False)
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (413, 10001)


async def test_a_bulk_read_returns_many_values() -> None:
    async with kv_emulator() as kv:
        end = int(kv.clock.now) + 500
        await kv.write([pair("a", '{"n": 1}', metadata={"m": 1}), pair("b", "[2]", expiration=end), pair("c", "")])
        assert await kv.read(["b", "a", "c", "none", "a"]) == {"b": "[2]", "a": '{"n": 1}', "c": "", "none": None}
        assert await kv.read(["a", "b", "none"], type="json") == {"a": {"n": 1}, "b": [2], "none": None}
        assert await kv.read(["a", "b", "none"], type="text", withMetadata=True) == {
            "a": {"value": '{"n": 1}', "metadata": {"m": 1}},
            "b": {"value": "[2]", "metadata": None, "expiration": end},
            "none": None,
        }


async def test_a_value_of_another_type_refuses_the_whole_bulk_read() -> None:
    async with kv_emulator() as kv:
        await kv.put("text", b"no json")
        await kv.put("binary", b"\xff")
        at = f"{kv.at}/bulk/get"
        assert await kv.api.refusal("POST", at, json={"keys": ["text", "binary"]}) == (400, 10001)
        assert await kv.api.refusal("POST", at, json={"keys": ["text"], "type": "json"}) == (400, 10001)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"keys": []}, 400),
        ({"keys": "a"}, 400),
        ({"keys": [1]}, 400),
        ({"keys": ["."]}, 400),
        ({"keys": ["k" * 513]}, 414),
        ({"keys": ["a"] * 101}, 400),
        ({"keys": ["a"], "type": "arrayBuffer"}, 400),
        ([], 400),
    ],
)
async def test_a_bulk_read_outside_the_schema_is_10001(body: Any, status: int) -> None:
    async with kv_emulator() as kv:
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/get", json=body) == (status, 10001)


async def test_a_bulk_read_is_limited_to_25_mebibytes() -> None:
    async with kv_emulator() as kv:
        await kv.put("a", b"v" * MAX_VALUE)
        await kv.put("b", b"v")
        assert len((await kv.read(["a"]))["a"]) == MAX_VALUE
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/get", json={"keys": ["a", "b"]}) == (413, 10001)
