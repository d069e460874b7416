"""The JSON Schema of the config takes and refuses the same files as the program."""

import json
import time
import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from syncd.cli.init import SCHEMA
from syncd.cli.main import run
from syncd.core.errors import ConfigError
from tests.unit.config.harness import ACCOUNT, MINIMAL, Place

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"


def faults(text: str) -> list[str]:
    """Return the places that the schema refuses."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(tomllib.loads(text))]


def mirror(*lines: str, target: str = 'type = "kv"\nnamespace_title = "docs"', before: str = "") -> str:
    return "\n".join(
        (
            'state_dir = "state"',
            f'[cloudflare]\naccount_id = "{ACCOUNT}"',
            before,
            '[mirrors.docs]\npath = "docs"',
            *lines,
            f"[mirrors.docs.target]\n{target}",
        )
    )


def cloudflare(line: str) -> str:
    return mirror().replace("[cloudflare]", f"[cloudflare]\n{line}")


AI_SEARCH = 'type = "ai-search"\ninstance = "docs"\n'
VECTORIZE = 'type = "vectorize"\nindex = "docs"\n'
GOOD = {
    "the shortest config": MINIMAL,
    "durations and sizes with units": mirror('settle = "250ms"', 'reconcile_interval = "1.5h"', "settle_max = 10"),
    "a number in quotes": mirror('settle = "2"'),
    "a size in KV": mirror(target='type = "kv"\nnamespace_title = "a b"\nmax_file_size = "10MB"\nstale_ttl = "1d"'),
    "a number of deletes": mirror("max_delete = 50"),
    "a percentage of deletes": mirror('max_delete = "12.5%"'),
    "no quota": cloudflare('quota = ""\ntpslimit = 0'),
    "a quota in an hour": cloudflare('quota = "100 / 1h"'),
    "a shard": mirror('shard = "3/4"'),
    "metadata of every kind": mirror(target=AI_SEARCH + 'metadata = { a = "front:x y", b = "folder" }'),
    "settings of an instance": mirror(
        target=AI_SEARCH
        + '[mirrors.docs.target.settings]\ncache_ttl = "1h"\nindex_method = { vector = true, keyword = true }'
    ),
    "a boost": mirror(target=AI_SEARCH + 'settings = { retrieval_options = { boost_by = [{ field = "modified" }] } }'),
    "Vectorize": mirror(target=VECTORIZE + "chunk_size = 400\nchunk_overlap = 0"),
    "a path and a target from defaults": mirror(
        target='namespace_title = "x"', before='[defaults]\nwatch = "poll"\n[defaults.target]\ntype = "kv"'
    ),
    "the page and the metrics": mirror(before='[web]\nlisten = "localhost:8385"\nmetrics_listen = "[::]:0"'),
    "notices": mirror(
        before='[notify]\nwebhook = "https://x.example/"\nurls = ["mailtos://u:p@x.example"]\nproblems = 0'
    ),
    "a local API": cloudflare('base_url = "http://127.0.0.1:8787/client/v4"'),
}
BAD = {
    "an unknown section": mirror(before="[cloud]\nx = 1"),
    "an unknown key": mirror("pth = 1"),
    "a key of another target": mirror(target=VECTORIZE + "stale_ttl = 60"),
    "an unknown setting": mirror(target=AI_SEARCH + "settings = { chunks = 1 }"),
    "an unknown type": mirror(target='type = "r2"'),
    "an unknown choice": mirror('watch = "fsevents"'),
    "an unknown unit": mirror('settle = "5 weeks"'),
    "an unknown unit of a size": mirror(target=VECTORIZE + 'max_file_size = "4 pages"'),
    "a negative duration": mirror("settle = -1"),
    "a table in place of a list": mirror("exclude = {}"),
    "a number in place of a pattern": mirror("include = [1]"),
    "a text in place of a table": mirror(target=AI_SEARCH + 'settings = "large"'),
    "an account of 31 digits": mirror().replace(ACCOUNT, ACCOUNT[1:]),
    "too many transfers": cloudflare("transfers = 257"),
    "no transfers": cloudflare("transfers = 0"),
    "a quota without a window": cloudflare('quota = "1050"'),
    "an address that is no URL": cloudflare('base_url = "api.cloudflare.com"'),
    "a percentage over 100": mirror('max_delete = "101%"'),
    "a negative number of deletes": mirror("max_delete = -1"),
    "a shard that is no fraction": mirror('shard = "one"'),
    "a long owner": mirror(f'owner = "{"x" * 65}"'),
    "a long key": mirror(target=AI_SEARCH + "max_key_length = 129"),
    "a large file": mirror(target=AI_SEARCH + "max_file_size = 10485761"),
    "a field of syncd": mirror(target=AI_SEARCH + 'metadata = { sha256 = "title" }'),
    "a field that the service gives": mirror(target=AI_SEARCH + 'metadata = { filename = "title" }'),
    "too many fields": mirror(target=AI_SEARCH + 'metadata = { a = "title", b = "title", c = "title", d = "title" }'),
    "an unknown source": mirror(target=AI_SEARCH + 'metadata = { a = "author" }'),
    "a namespace by id and title": mirror(target=f'type = "kv"\nnamespace_id = "{ACCOUNT}"\nnamespace_title = "x"'),
    "a short life": mirror(target='type = "kv"\nnamespace_title = "x"\nstale_ttl = 59'),
    "a cache time that the service lacks": mirror(target=AI_SEARCH + "settings = { cache_ttl = 601 }"),
    "a boost without a field": mirror(
        target=AI_SEARCH + 'settings = { retrieval_options = { boost_by = [{ direction = "asc" }] } }'
    ),
    "four boosts": mirror(
        target=AI_SEARCH + "settings = { retrieval_options = { boost_by = [" + '{ field = "a" },' * 4 + "] } }"
    ),
    "a listen without a port": mirror(before='[web]\nlisten = "localhost"'),
    "a webhook that is no URL": mirror(before='[notify]\nwebhook = "hooks.example.org"'),
    "a list of addresses that holds none": mirror(before='[notify]\nurls = ["me"]'),
    "a name of a mirror in upper case": mirror().replace("mirrors.docs", "mirrors.Docs"),
    "a long chunk": mirror(target=VECTORIZE + "chunk_size = 8001"),
    "a model that is no model": mirror(target=VECTORIZE + 'model = "bge"'),
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "docs").mkdir()
    return Place(tmp_path)


@pytest.mark.parametrize("name", GOOD)
def test_a_config_that_loads_is_valid(place: Place, name: str) -> None:
    place.load(GOOD[name])
    assert faults(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_a_config_that_is_refused_by_its_form_is_invalid(place: Place, name: str) -> None:
    with pytest.raises(ConfigError):
        place.load(BAD[name])
    assert faults(BAD[name])


@pytest.mark.parametrize("line", ['gitignore = "no"', 'target.max_key_length = "64"'])
def test_a_number_or_boolean_in_quotes_is_for_the_environment(place: Place, line: str) -> None:
    text = mirror(target='type = "kv"\nnamespace_title = "docs"').replace('path = "docs"', f'path = "docs"\n{line}')
    if line.startswith("target."):
        text = text.replace("[mirrors.docs.target]\n", "").replace("type =", "target.type =")
        text = text.replace("namespace_title =", "target.namespace_title =")
    place.load(text)
    assert faults(text)


def test_the_schema_is_one_and_the_example_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert faults(EXAMPLE.read_text(encoding="utf-8")) == []


def test_every_example_and_default_is_valid() -> None:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    checked = 0
    for name, section in schema["$defs"].items():
        for key, value in section["properties"].items():
            validator = jsonschema.Draft202012Validator(value | {"$defs": schema["$defs"]})
            for each in [*value.get("examples", []), *([value["default"]] if "default" in value else [])]:
                assert list(validator.iter_errors(each)) == [], f"{name}.{key}"
                checked += 1
    assert checked > 80


def test_the_command_prints_the_schema_without_a_config(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begin = time.process_time()
    assert run(["schema"]) == 0
    assert time.process_time() - begin < 2
    assert capsys.readouterr().out == SCHEMA.read_text(encoding="utf-8")


def test_init_and_the_example_name_the_address_of_the_schema(capsys: pytest.CaptureFixture[str], place: Place) -> None:
    url = json.loads(SCHEMA.read_text(encoding="utf-8"))["$id"]
    assert run(["-c", str(place.file), "init", str(place.base / "docs"), "--target", "kv:docs"]) == 0
    capsys.readouterr()
    text = place.file.read_text(encoding="utf-8")
    for each in (text, EXAMPLE.read_text(encoding="utf-8")):
        assert each.startswith(f"#:schema {url}\n")
    assert faults(text) == []
