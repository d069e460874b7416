"""A syntax error of TOML names the line, the key and how to write it, and quotes no value."""

import re
import tomllib

import pytest

from syncd.config.file import file_values
from syncd.core.errors import ConfigError
from tests.unit.config.harness import Place, toml

SECRET = "s3cr3t"
MISTAKES = {
    "a = 1\npath = /srv/s3cr3t": (2, 'path: a text needs straight quotes, such as "docs" or "30s"'),
    "path = “/srv/s3cr3t”": (1, "path: a text needs straight quotes"),
    "create = True": (1, "create: a text needs straight quotes, such as"),
    "settle = 30s": (1, "settle: one value, and no more: a text in quotes"),
    'path = "/srv/"s3cr3t"': (1, "path: one value, and no more"),
    'path = "C:\\Users\\s3cr3t"': (1, "path: a text with a backslash stands in '…'"),
    'path = "C:\\s3cr3t"': (1, "path: a text with a backslash stands in '…'"),
    'path = "/srv/s3cr3t\ncreate = true': (1, 'path: the text has no closing "'),
    'path = "/srv/s3cr3t\x07"': (1, "path: a control character stands in the text"),
    'path: "/srv/s3cr3t"': (1, "path: a line is written key = value"),
    '[cloudflare]\napi_token = "s3cr3t"\napi_token = "s3cr3t"\n': (3, "api_token: the name stands here a second time"),
    "[mirrors.docs]\n[mirrors.docs]": (2, "the section [mirrors.docs] stands here a second time; put all its keys"),
    "[cloudflare]\n[cloudflare]\ntpslimit = 1": (2, "the section [cloudflare] stands here a second time"),
    "target = { type = 'kv' }\n[target]": (2, "the section [target] stands here a second time"),
    "[mirrors.docs\npath = 's3cr3t'": (1, "a heading is [mirrors.NAME], in square brackets and without spaces"),
    "[mirrors.my docs]": (1, "a heading is [mirrors.NAME]"),
    "= 's3cr3t'": (1, "a line is written key = value, or a [heading]"),
    "include = [\n'a'\n'b']": (3, 'a list is ["a", "b"], with commas'),
    "target = { type = 'kv'\n": (1, "target: a table is"),
    "s3cr3t": (1, "a line is written key = value"),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_syntax_error_names_the_line_and_how_to_write_it(place: Place, text: str) -> None:
    line, why = MISTAKES[text]
    message = place.fault(text)
    assert message.startswith(f"{place.file}:{line} is not valid TOML: {why}")
    assert SECRET not in message


def test_every_message_of_the_parser_has_an_explanation(place: Place) -> None:
    """The parser of this Python is asked, so that a new Python with other messages is noticed."""
    for text in MISTAKES:
        with pytest.raises(tomllib.TOMLDecodeError) as caught:
            tomllib.loads(text)
        cause = re.sub(r" \(at .*", "", str(caught.value))
        place.file.write_text(text)
        with pytest.raises(ConfigError) as explained:
            file_values(place.file)
        assert cause not in str(explained.value)


def test_a_text_in_quotes_is_no_mistake(place: Place) -> None:
    place.file.write_text(f"path = {toml('/srv/docs')}")
    assert file_values(place.file) == {"path": "/srv/docs"}
