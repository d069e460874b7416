"""The addresses of the status page and of the metrics, and of the notices."""

import pytest

from syncd.config.schema import MOST_URLS
from syncd.config.sources import secrets
from syncd.config.values import listen_address
from tests.unit.config.harness import Place, toml

SECRET = "https://hooks.example.org/T0/s3cr3t-path"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8385", ("127.0.0.1", 8385)),
        ("127.9.9.9:1", ("127.9.9.9", 1)),
        ("localhost:65535", ("127.0.0.1", 65535)),
        ("[::1]:8385", ("::1", 8385)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
    ],
)
def test_a_loopback_address_is_taken(place: Place, text: str, address: tuple[str, int]) -> None:
    assert place.load(place.with_key("web.listen", toml(text))).web.listen == text
    assert listen_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:8385",
        "[::]:8385",
        "192.168.1.2:8385",
        "example.org:8385",
        "localhost.example.org:8385",
        "127.0.0.1",
        "8385",
        ":8385",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:http",
        "http://127.0.0.1:8385",
        "127.0.0.1:8385/",
        "me@127.0.0.1:8385",
        "[::1:8385",
        " 127.0.0.1:8385",
    ],
)
def test_any_other_address_is_refused_in_one_line(place: Place, text: str) -> None:
    message = place.fault(place.with_key("web.listen", toml(text)))
    assert 'web.listen: should be a loopback address and a port, such as "127.0.0.1:8385"' in message


@pytest.mark.parametrize("text", ["0.0.0.0:9385", "[::]:9385", "10.1.2.3:1", "127.0.0.1:0"])
def test_metrics_may_be_served_at_any_address(place: Place, text: str) -> None:
    assert place.load(place.with_key("web.metrics_listen", toml(text))).web.metrics_listen == text


@pytest.mark.parametrize("text", ["9385", ":9385", "localhost:9385", "0.0.0.0", "0.0.0.0:65536", "http://0.0.0.0:1"])
def test_another_address_for_metrics_is_refused(place: Place, text: str) -> None:
    message = place.fault(place.with_key("web.metrics_listen", toml(text)))
    assert 'web.metrics_listen: should be an IP address and a port, such as "0.0.0.0:9385"' in message


def test_the_page_and_the_metrics_have_two_addresses(place: Place) -> None:
    text = place.with_key("web.listen", toml("127.0.0.1:8385"))
    assert "another address than listen" in place.fault(f'{text}\nmetrics_listen = "127.0.0.1:8385"')


@pytest.mark.parametrize("text", ["", SECRET, "http://127.0.0.1:9/x", "http://[::1]/x", "http://localhost/x"])
def test_a_webhook_is_https_or_on_loopback(place: Place, text: str) -> None:
    assert place.load(place.with_key("notify.webhook", toml(text))).notify.webhook.get_secret_value() == text


@pytest.mark.parametrize(
    "text",
    [
        "http://hooks.example.org/s3cr3t-path",
        "hooks.example.org/s3cr3t-path",
        "ftp://127.0.0.1/s3cr3t-path",
        "https:///s3cr3t-path",
        "https://[/s3cr3t-path",
        "https://a/s3cr3t-path\u00e9",
        "https://a/ s3cr3t-path",
    ],
)
def test_any_other_webhook_is_refused_without_quoting_it(place: Place, text: str) -> None:
    message = place.fault(place.with_key("notify.webhook", toml(text)))
    assert "notify.webhook: should" in message
    assert "s3cr3t" not in message


def test_the_webhook_is_masked_in_all_output(place: Place) -> None:
    config = place.load(place.with_key("notify.webhook", toml(SECRET)))
    assert SECRET in secrets(config)
    assert "s3cr3t" not in repr(config)


def test_the_webhook_can_come_from_the_environment(place: Place) -> None:
    config = place.load(environ={"SYNCD_NOTIFY__WEBHOOK": SECRET, "SYNCD_WEB__LISTEN": "localhost:1"})
    assert (config.notify.webhook.get_secret_value(), config.web.listen) == (SECRET, "localhost:1")


def test_addresses_of_apprise_are_secrets_and_a_wrong_one_is_not_quoted(place: Place) -> None:
    config = place.load(place.with_key("notify.urls", '["ntfys://s3cr3t", "json://127.0.0.1:9/s3cr3t"]'))
    assert [url.get_secret_value() for url in config.notify.urls] == ["ntfys://s3cr3t", "json://127.0.0.1:9/s3cr3t"]
    assert {"ntfys://s3cr3t", "json://127.0.0.1:9/s3cr3t"} <= set(secrets(config))
    assert "s3cr3t" not in repr(config)
    message = place.fault(place.with_key("notify.urls", '["s3cr3t"]'))
    assert "should be an address of apprise" in message
    assert "s3cr3t" not in message


@pytest.mark.parametrize(("count", "works"), [(MOST_URLS, True), (MOST_URLS + 1, False)])
def test_the_number_of_addresses_is_bounded(place: Place, count: int, *, works: bool) -> None:
    text = place.with_key("notify.urls", str(["json://127.0.0.1:9"] * count).replace("'", '"'))
    if works:
        assert len(place.load(text).notify.urls) == count
    else:
        assert f"notify.urls: List should have at most {MOST_URLS}" in place.fault(text)
