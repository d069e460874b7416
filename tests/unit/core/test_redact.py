"""Text without secrets and without control characters."""

from typing import NoReturn

import pytest

from syncd.core import redact

SECRET = "s3cr3t/t0ken-of-the-account"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_secrets", [])
    redact.add_secrets([SECRET])


def refuse() -> NoReturn:
    raise ValueError(f"refused: {SECRET}\n\x1b[31mforged line\n")


def test_a_traceback_is_indented_and_has_no_secret_and_no_control_character() -> None:
    with pytest.raises(ValueError, match="refused") as caught:
        refuse()
    lines = redact.traceback_of(caught.value).split("\n")
    assert lines[0] == "  Traceback (most recent call last):"
    assert lines[-2:] == ["  ValueError: refused: [hidden]", "  \\x1b[31mforged line"]
    assert all(line.startswith("  ") and SECRET not in line for line in lines)


def test_values_of_every_type_lose_the_secret_and_keep_their_form() -> None:
    kept = object()
    value = {"a": [SECRET, 1, None, True, 0.5], SECRET: (f"x {SECRET} y",), "b": kept}
    assert redact.redact(value) == {
        "a": ["[hidden]", 1, None, True, 0.5],
        "[hidden]": ["x [hidden] y"],
        "b": kept,
    }
    assert redact.redact(ValueError(SECRET)) == "ValueError('[hidden]')"


def test_without_secrets_a_value_is_returned_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_secrets", [])
    value = {"a": [1]}
    assert redact.redact(value) is value


def test_short_and_repeated_secrets_have_one_form() -> None:
    assert redact.encoded_forms("") == []
    assert redact.encoded_forms("1234567") == ["1234567"]
    assert len(redact.encoded_forms("12345678")) == 4
    before = list(redact._secrets)
    redact.add_secrets([SECRET])
    assert redact._secrets == before
