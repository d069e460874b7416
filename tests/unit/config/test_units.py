"""The units of durations and sizes."""

import pytest

from syncd.config.values import parse_duration, parse_size, seconds, size


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1.5d", 129600.0),
        (" 2 h ", 7200.0),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(text: str, found: float) -> None:
    assert parse_duration(text) == found


@pytest.mark.parametrize("text", ["", "h", "-1s", "1 hour", "1H", "1M", "inf", "nan", "1h30m", "1_0s", "1e3s", "٣s"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a number of seconds, or a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("4096", 4096),
        ("7B", 7),
        ("4MiB", 4 * 1024 * 1024),
        ("4 mib", 4 * 1024 * 1024),
        ("10MB", 10_000_000),
        ("1.5kB", 1500),
        ("0.5KiB", 512),
        ("2GiB", 2 * 1024**3),
    ],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(text: str, found: int) -> None:
    assert parse_size(text) == found


@pytest.mark.parametrize("text", ["", "MiB", "4M", "4Mb/s", "-1MB", "0.5", "1.0001kB", "4MiBs"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="a number of bytes, or a size such as"):
        parse_size(text)


def test_values_without_a_unit_are_left_to_the_schema() -> None:
    assert seconds("60") == "60"
    assert seconds(60) == 60
    assert size("4096") == "4096"
    assert size([]) == []
    assert seconds("1m") == 60.0
    assert size("1kB") == 1000
