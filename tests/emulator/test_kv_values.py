from typing import Any

import httpx
import pytest

from tests.emulator.harness import KVClient, counter, kv_emulator, pair

MAX_VALUE = 25 * 1024 * 1024
ODD_KEYS = [
    "a",
    "docs/a b.md",
    "/lead",
    "über/ñ/日本/😀.md",
    "%2F",
    "a%b?c#d&e=f+g",
    ":!*'()",
    " ",
    "...",
    "a\nb",
    "k" * 512,
]


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_a_value_is_written_read_and_deleted_under_any_key(key: str) -> None:
    async with kv_emulator() as kv:
        content = bytes(range(256))
        await kv.put(key, content)
        response = await kv.get(key)
        assert response.content == content
        assert response.headers["content-type"] == "application/octet-stream"
        assert "expiration" not in response.headers
        assert await kv.names() == [key]
        assert await kv.api.result("DELETE", kv.path(key)) == {}
        assert await kv.value(key) is None
        assert await kv.names() == []


async def test_an_empty_value_is_stored() -> None:
    async with kv_emulator() as kv:
        await kv.put("a", b"")
        assert await kv.value("a") == b""


async def test_a_missing_key_is_10009_and_deleting_it_succeeds() -> None:
    async with kv_emulator() as kv:
        for kind in ("values", "metadata"):
            assert await kv.api.refusal("GET", kv.path("a", kind)) == (404, 10009)
        assert await kv.api.result("DELETE", kv.path("a")) == {}


@pytest.mark.parametrize("raw", ["", "%2E", ".%2E", "%2E%2E", "%FF"])
async def test_an_invalid_key_is_10001(raw: str) -> None:
    async with kv_emulator() as kv:
        for method in ("GET", "PUT", "DELETE"):
            assert await kv.api.refusal(method, f"{kv.at}/values/{raw}") == (400, 10001)
        assert await kv.api.refusal("GET", f"{kv.at}/metadata/{raw}") == (400, 10001)


async def test_a_plain_slash_separates_path_segments() -> None:
    async with kv_emulator() as kv:
        assert await kv.api.refusal("PUT", f"{kv.at}/values/a/b", content=b"x") == (404, 7000)


async def test_a_key_over_512_bytes_is_414() -> None:
    async with kv_emulator() as kv:
        for key in ("k" * 513, "é" * 256 + "k"):
            for method in ("GET", "PUT", "DELETE"):
                assert await kv.api.refusal(method, kv.path(key)) == (414, 10001)
            assert await kv.api.refusal("GET", kv.path(key, "metadata")) == (414, 10001)
        await kv.put("é" * 256)


async def test_a_value_has_at_most_25_mebibytes() -> None:
    async with kv_emulator() as kv:
        await kv.put("a", bytes(MAX_VALUE))
        assert await kv.api.refusal("PUT", kv.path("a"), content=bytes(MAX_VALUE + 1)) == (413, 10001)
        assert await kv.api.refusal("PUT", kv.path("a"), content=bytes(MAX_VALUE + 2_000_000)) == (413, 10001)
        too_big = {"value": bytes(MAX_VALUE + 1)}
        assert await kv.api.refusal("PUT", kv.path("a"), files=too_big) == (413, 10001)
        response = await kv.get("a")
        assert len(response.content) == MAX_VALUE


@pytest.mark.parametrize(
    "files",
    [
        {"value": (None, b"\x00\xff"), "metadata": (None, '{"a":[1,"\u00e9"]}')},
        {"metadata": (None, ' {"a": [1, "\\u00e9"]}', "text/plain"), "value": ("upload", b"\x00\xff")},
        {
            "value": ("upload", b"\x00\xff", "application/octet-stream"),
            "metadata": ("blob", '{"a":[1,"\\u00e9"]}', "application/json"),
        },
    ],
)
async def test_every_form_that_clients_send_is_accepted(files: Any) -> None:
    async with kv_emulator() as kv:
        assert await kv.api.result("PUT", kv.path("a"), files=files) == {}
        assert await kv.value("a") == b"\x00\xff"
        assert await kv.metadata("a") == {"a": [1, "é"]}
        assert (await kv.page())[0] == [{"name": "a", "metadata": {"a": [1, "é"]}}]


async def test_a_form_of_wrangler_without_content_types_is_accepted() -> None:
    async with kv_emulator() as kv:
        body = (
            b'------x\r\nContent-Disposition: form-data; name="value"\r\n\r\nline 1\nline 2\r\n'
            b'------x\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{"n":1}\r\n------x--\r\n'
        )
        headers = {"Content-Type": "multipart/form-data; boundary=----x"}
        params = {"expiration_ttl": "60"}
        assert await kv.api.result("PUT", kv.path("a"), content=body, headers=headers, params=params) == {}
        assert await kv.value("a") == b"line 1\nline 2"
        assert (await kv.page())[0] == [
            {"name": "a", "expiration": int(kv.clock.now) + 60, "metadata": {"n": 1}},
        ]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/x-www-form-urlencoded"])
async def test_a_body_other_than_a_form_is_the_value(content_type: str) -> None:
    async with kv_emulator() as kv:
        headers = {"Content-Type": content_type}
        await kv.api.result("PUT", kv.path("a"), content=b'{"value": 1}', headers=headers)
        assert await kv.value("a") == b'{"value": 1}'


async def test_a_broken_form_is_10001() -> None:
    async with kv_emulator() as kv:
        for files in (
            {"other": b"x"},
            {"value": b"x", "metadata": (None, "{")},
            {"value": b"x", "metadata": (None, "")},
            {"value": b"x", "metadata": (None, "NaN")},
        ):
            assert await kv.api.refusal("PUT", kv.path("a"), files=files) == (400, 10001)
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert await kv.api.refusal("PUT", kv.path("a"), content=b"x", headers=headers) == (400, 10001)


async def test_metadata_has_at_most_1024_bytes_as_compact_json() -> None:
    async with kv_emulator() as kv:
        fits, too_long = '{"a": "' + "é" * 508 + '"}', '{"a":"' + "é" * 508 + 'x"}'
        await kv.api.result("PUT", kv.path("a"), files={"value": b"x", "metadata": (None, fits)})
        over = {"value": b"y", "metadata": (None, too_long)}
        assert await kv.api.refusal("PUT", kv.path("a"), files=over) == (413, 10001)
        assert await kv.value("a") == b"x"


async def test_metadata_may_be_any_json_and_null_means_no_metadata() -> None:
    async with kv_emulator() as kv:
        for text, expected in (('"x"', "x"), ("0", 0), ("[]", []), ("null", None)):
            await kv.api.result("PUT", kv.path("a"), files={"value": b"x", "metadata": (None, text)})
            assert await kv.metadata("a") == expected
        assert (await kv.page())[0] == [{"name": "a"}]


async def test_a_write_replaces_value_metadata_and_expiration() -> None:
    async with kv_emulator() as kv:
        await kv.write([pair("a", metadata={"n": 1}, expiration_ttl=100)])
        await kv.put("a", b"new")
        assert await kv.value("a") == b"new"
        assert await kv.metadata("a") is None
        assert (await kv.page())[0] == [{"name": "a"}]


async def test_an_entry_disappears_at_its_expiration() -> None:
    async with kv_emulator() as kv:
        end = int(kv.clock.now) + 90
        await kv.put("a", expiration=end)
        await kv.put("b", expiration=end, expiration_ttl=60)
        await kv.put("c")
        assert [(await kv.get(key)).headers.get("expiration") for key in "abc"] == [str(end), str(end - 30), None]
        kv.clock.wait(60)
        assert await kv.names() == ["a", "c"]
        assert await kv.value("b") is None
        kv.clock.wait(30)
        assert await kv.names() == ["c"]
        assert await kv.api.refusal("GET", kv.path("a", "metadata")) == (404, 10009)
        assert await kv.read(["a", "c"]) == {"a": None, "c": "value"}
        await kv.put("a", b"again")
        assert await kv.names() == ["a", "c"]


@pytest.mark.parametrize(
    ("params", "fine"),
    [
        ({"expiration_ttl": "59"}, False),
        ({"expiration_ttl": "60"}, True),
        ({"expiration_ttl": "60.0"}, True),
        ({"expiration_ttl": "60.5"}, False),
        ({"expiration_ttl": "-60"}, False),
        ({"expiration_ttl": "1e400"}, False),
        ({"expiration_ttl": "nan"}, False),
        ({"expiration_ttl": ""}, False),
        ({"expiration_ttl": "soon"}, False),
        ({"expiration": "1800000059"}, False),
        ({"expiration": "1800000060"}, True),
        ({"expiration": "0"}, False),
        ({"expiration": "0", "expiration_ttl": "60"}, True),
        ({"expiration": "1800000090", "expiration_ttl": "0"}, False),
    ],
)
async def test_an_expiration_is_at_least_60_seconds_ahead_and_the_ttl_wins(params: dict[str, str], fine: bool) -> None:
    async with kv_emulator() as kv:
        response = await kv.api.ask("PUT", kv.path("a"), content=b"x", params=params)
        assert (response.status_code, response.json()["success"]) == ((200, True) if fine else (400, False))


async def test_an_option_limits_a_key_to_one_write_per_second() -> None:
    async def refused(kv: KVClient) -> None:
        assert await kv.api.refusal("PUT", kv.path("a"), content=b"3") == (429, 10429)
        assert await kv.write_refused([pair("b", "3"), pair("a", "3")]) == (429, 10429)

    async with kv_emulator(kv_write_limit=True) as kv:
        await kv.put("a", b"1")
        await refused(kv)
        assert await kv.read(["a", "b"]) == {"a": "1", "b": None}
        kv.clock.wait(1)
        await kv.write([pair("a", "2"), pair("b", "2")])
        await refused(kv)
        assert await kv.read(["a", "b"]) == {"a": "2", "b": "2"}
    async with kv_emulator() as kv:
        await kv.put("a", b"1")
        await kv.put("a", b"2")


async def test_requests_are_counted_by_endpoint() -> None:
    async with kv_emulator() as kv:
        counter(kv.api.app).reset()
        await kv.put("a/b")
        await kv.get("c")
        below = "/accounts/{account_id}/storage/kv/namespaces/{namespace_id}/values/{key_name}"
        assert counter(kv.api.app).routes == {f"PUT {below}": 1, f"GET {below}": 1}


async def test_the_size_limit_applies_to_a_body_without_a_length() -> None:
    async with kv_emulator() as kv:

        async def pieces() -> Any:
            for _ in range(27):
                yield bytes(1024 * 1024)

        response: httpx.Response = await kv.api.ask("PUT", kv.path("a"), content=pieces())
        assert (response.status_code, response.json()["errors"][0]["code"]) == (413, 10001)
