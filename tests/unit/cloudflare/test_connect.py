from urllib.parse import unquote

import httpx
import pytest

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.connection import make_transport, proxy_of
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Request, path
from syncd.cloudflare.transport import Transport
from syncd.core.requests import check_base_url, is_loopback
from tests.unit.cloudflare.harness import VirtualTime

API = "https://api.cloudflare.com/client/v4"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


@pytest.mark.parametrize("url", [API, "http://127.0.0.1:1/client/v4", "http://localhost:1", "http://[::1]:1/x"])
def test_https_and_loopback_are_taken(url: str) -> None:
    assert check_base_url(url + "/") == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.cloudflare.com/client/v4",
        "http://localhost.example.com",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "ftp://localhost",
        "https://",
        "api.cloudflare.com",
        "",
        "https://me:hush@api.cloudflare.com",
        "https://hush@api.cloudflare.com",
        "https://:hush@api.cloudflare.com",
        "https://api.cloudflare.com/?token=hush",
        "https://api.cloudflare.com/#hush",
        "https://hush:port",
        "https://api.cloudflare.com/?",
        "https://api.cloudflare.com/#",
        "http://localhost\\@example.com",
        "http://localhost\\.example.com",
        "http://local\nhost",
    ],
)
def test_any_other_base_url_is_refused_without_being_quoted(time: VirtualTime, url: str) -> None:
    gate = Gate(0, 1, time.clock, time.sleep)
    with pytest.raises(ValueError, match="base_url") as caught:
        Transport(url, "a", Credentials.bearer("t"), gate)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("LOCALHOST", True),
        ("example.com", False),
        ("8.8.8.8", False),
    ],
)
def test_loopback_is_known_without_a_look_up(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_https_proxy_is_honoured_for_https_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert proxy_of(API) == "http://proxy.example:3128"
    assert proxy_of("https://localhost:1") is None
    assert proxy_of("http://127.0.0.1:1") is None


def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "cloudflare.com")
    assert proxy_of(API) is None


def test_a_proxy_that_cannot_be_used_is_refused_and_not_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example:1080")
    with pytest.raises(ValueError, match="HTTPS_PROXY"):
        make_transport(API)


@pytest.mark.parametrize(
    ("segment", "encoded"),
    [
        ("a", "/a"),
        ("a/b", "/a%2Fb"),
        ("/a", "/%2Fa"),
        ("a b+c", "/a%20b%2Bc"),
        ("100%", "/100%25"),
        ("a%2Fb", "/a%252Fb"),
        ("é?#&=;@:", "/%C3%A9%3F%23%26%3D%3B%40%3A"),
        ("...", "/..."),
        ("\n", "/%0A"),
    ],
)
def test_a_path_segment_arrives_as_it_was(segment: str, encoded: str) -> None:
    assert path(segment) == encoded
    sent = httpx.Request("GET", "http://127.0.0.1:1/v4" + path(segment, "x"))
    raw = sent.url.raw_path.decode()
    assert raw == f"/v4{encoded}/x"
    assert unquote(raw.split("/")[2]) == segment


@pytest.mark.parametrize("segment", ["", ".", "..", "\ud800"])
def test_a_segment_that_a_server_could_not_see_is_refused(segment: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        path("a", segment)


@pytest.mark.parametrize(
    ("request_", "changing", "repeatable"),
    [
        (Request("GET", "/"), False, True),
        (Request("POST", "/"), True, False),
        (Request("POST", "/", reads=True), False, True),
        (Request("POST", "/", safe=True), True, True),
        (Request("PUT", "/"), True, True),
        (Request("PUT", "/", safe=False), True, False),
        (Request("DELETE", "/"), True, True),
        (Request("PATCH", "/"), True, True),
    ],
)
def test_whether_a_request_changes_something_and_may_be_sent_again(
    request_: Request, changing: bool, repeatable: bool
) -> None:
    assert (request_.changing, request_.repeatable) == (changing, repeatable)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"ALL_PROXY": "http://all:1"}, "http://all:1"),
        ({"all_proxy": "all:1"}, "http://all:1"),
        ({"ALL_PROXY": "http://all:1", "HTTPS_PROXY": "http://https:1"}, "http://https:1"),
        ({"ALL_PROXY": "http://upper:1", "all_proxy": "http://lower:1"}, "http://lower:1"),
        ({"ALL_PROXY": "http://all:1", "HTTPS_PROXY": ""}, "http://all:1"),
        ({"HTTP_PROXY": "http://http:1"}, None),
        ({"ALL_PROXY": "http://all:1", "NO_PROXY": "cloudflare.com"}, None),
        ({"ALL_PROXY": "http://all:1", "no_proxy": ".cloudflare.com"}, None),
        ({"ALL_PROXY": "http://all:1", "NO_PROXY": "api.cloudflare.com:443"}, None),
        ({"ALL_PROXY": "http://all:1", "NO_PROXY": "api.cloudflare.com:8443"}, "http://all:1"),
        ({"ALL_PROXY": "http://all:1", "NO_PROXY": "*"}, None),
        ({"ALL_PROXY": "http://all:1", "NO_PROXY": "10.0.0.0/8"}, "http://all:1"),
    ],
)
def test_all_proxy_stands_behind_the_schemes_own(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: str | None
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(API) == expected


def test_a_network_in_no_proxy_holds_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://all:1")
    monkeypatch.setenv("NO_PROXY", "example.com, 10.0.0.0/8")
    assert proxy_of("https://10.1.2.3/client/v4") is None
    assert proxy_of("https://11.1.2.3/client/v4") == "http://all:1"


@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "ftp"])
def test_a_proxy_that_cannot_be_used_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    monkeypatch.setattr("syncd.cloudflare.connection.find_spec", lambda _: None)
    monkeypatch.setenv(name, f"{scheme}://me:hush@proxy:1")
    with pytest.raises(ValueError, match=f"(?i){name}") as caught:
        proxy_of(API)
    assert "hush" not in str(caught.value)
