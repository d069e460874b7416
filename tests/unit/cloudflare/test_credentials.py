import pickle

import pytest

from syncd.cloudflare.auth import Credentials, Login
from syncd.core.plain_text import redact_text


def test_a_token_goes_into_one_header() -> None:
    assert Credentials.bearer("abc").headers == {"Authorization": "Bearer abc"}


def test_a_global_key_goes_with_its_address_and_without_a_bearer() -> None:
    headers = Credentials.global_key("me@example.com", "k3y").headers
    assert headers == {"X-Auth-Email": "me@example.com", "X-Auth-Key": "k3y"}


def test_surrounding_white_space_of_a_token_file_is_dropped() -> None:
    assert Credentials.bearer(" abc\n").headers == {"Authorization": "Bearer abc"}


@pytest.mark.parametrize("credentials", [Credentials.bearer("s3cr3t"), Credentials.global_key("me@x", "s3cr3t")])
def test_no_secret_is_printable(credentials: Credentials) -> None:
    for text in (repr(credentials), str(credentials), f"{credentials}", f"{[credentials]}"):
        assert "s3cr3t" not in text


def test_a_secret_is_hidden_in_any_text() -> None:
    Credentials.bearer("s3cr3t-8")
    assert redact_text("a s3cr3t-8 b s3cr3t-8") == "a [hidden] b [hidden]"


@pytest.mark.parametrize(("secret", "too_short"), [("x", True), ("1234567", True), ("12345678", False)])
def test_a_secret_that_is_too_short_leaves_texts_as_they_are(secret: str, too_short: bool) -> None:
    login = Login(Credentials.bearer(secret))
    assert (login.credentials.forms == ()) == too_short
    assert (secret in redact_text(f"put.done {secret}.md")) == too_short
    assert (secret.encode() in login.hide_bytes(f"put.done {secret}.md".encode())) == too_short


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "is empty; copy it again"),
        ("  ", "is empty; copy it again"),
        ("s3c\nr3t", "holds a space or a line break; copy it alone"),
        ("Bearer s3cr3t", 'copy it alone, on one line, without "Bearer"'),
        ('"s3cr3t"', "begins or ends with a quote; write it without quotes"),
        ("s3cr3t'", "begins or ends with a quote; write it without quotes"),
        ("s3cr3té", "holds a character that no Cloudflare credential has; copy it again"),
        ("s3cr3t\x00", "holds a character that no Cloudflare credential has; copy it again"),
    ],
)
def test_a_secret_that_no_header_can_hold_is_refused_with_a_remedy_and_not_quoted(value: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Credentials.bearer(value)
    assert "s3c" not in str(caught.value)
    with pytest.raises(ValueError, match=why):
        Credentials.global_key("me@example.com", value)


def test_the_headers_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        Credentials.bearer("abc").headers["Authorization"] = "x"  # type: ignore[index]


def test_credentials_do_not_travel() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Credentials.bearer("abc"))
