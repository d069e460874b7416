"""The table [mirrors.NAME.target.settings]: its values, its limits, and the remedy for a wrong key."""

import re
import tomllib
from typing import Any

import pytest

from syncd.cli.main import run
from syncd.config.instance_settings import InstanceSettingsSection
from syncd.config.target_sections import AISearchSection
from tests.unit.config.harness import ACCOUNT, MINIMAL, Place, keys_of_example

EVERYTHING: dict[str, Any] = {
    "embedding_model": "@cf/baai/bge-m3",
    "index_method": {"vector": True, "keyword": False},
    "indexing_options": {"keyword_tokenizer": "trigram", "use_ocr": True},
    "chunk": True,
    "chunk_size": 64,
    "chunk_overlap": 30,
    "retrieval_options": {"keyword_match_mode": "or", "boost_by": [{"field": "timestamp", "direction": "desc"}]},
    "fusion_method": "max",
    "max_num_results": 50,
    "score_threshold": 1.0,
    "reranking": False,
    "reranking_model": "@cf/baai/bge-reranker-base",
    "rewrite_query": True,
    "rewrite_model": "m",
    "ai_search_model": "m",
    "ai_gateway_id": "g",
    "cache": False,
    "cache_threshold": "anything_goes",
    "cache_ttl": 600,
    "public_endpoint_params": {
        "enabled": True,
        "authorized_hosts": ["a.example"],
        "mcp": {"disabled": False, "description": "docs"},
        "search_endpoint": {"disabled": True},
        "chat_completions_endpoint": {"disabled": True},
        "rate_limit": {"requests": 1, "period_ms": 1, "technique": "fixed"},
        "custom_domains": ["search.example"],
        "default_domain_enabled": False,
    },
}


def with_settings(*lines: str) -> str:
    return "\n".join([MINIMAL, "[mirrors.docs.target.settings]", *lines, ""])


def settings_of(place: Place, text: str, environ: dict[str, str] | None = None) -> dict[str, Any]:
    target = place.load(text, environ).mirrors["docs"].target
    assert isinstance(target, AISearchSection)
    return target.settings.model_dump(exclude_none=True)


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {as_toml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def test_no_settings_are_given_by_default(place: Place) -> None:
    assert settings_of(place, MINIMAL) == {}


def test_every_setting_reaches_the_request_as_it_is(place: Place) -> None:
    assert EVERYTHING.keys() == InstanceSettingsSection.model_fields.keys()
    given = settings_of(place, with_settings(*(f"{name} = {as_toml(value)}" for name, value in EVERYTHING.items())))
    assert given == EVERYTHING


def test_settings_may_be_tables_and_come_from_the_environment(place: Place) -> None:
    text = with_settings("chunk_size = 512") + "[mirrors.docs.target.settings.indexing_options]\nuse_ocr = true\n"
    assert settings_of(place, text) == {"chunk_size": 512, "indexing_options": {"use_ocr": True}}
    start = "SYNCD_MIRRORS__DOCS__TARGET__SETTINGS__"
    environ = {
        f"{start}CACHE_TTL": "3600",
        f"{start}CACHE": "false",
        f"{start}PUBLIC_ENDPOINT_PARAMS__MCP__DISABLED": "true",
        f"{start}RETRIEVAL_OPTIONS__BOOST_BY": '[{"field": "timestamp"}]',
    }
    assert settings_of(place, MINIMAL, environ) == {
        "cache": False,
        "cache_ttl": 3600,
        "public_endpoint_params": {"mcp": {"disabled": True}},
        "retrieval_options": {"boost_by": [{"field": "timestamp"}]},
    }


def test_settings_of_a_mirror_are_merged_with_the_defaults(place: Place) -> None:
    defaults = "[defaults.target.settings]\ncache = false\nchunk_size = 64\nindexing_options = { use_ocr = true }\n"
    text = with_settings("chunk_size = 128", 'indexing_options = { keyword_tokenizer = "trigram" }') + defaults
    merged = {
        "cache": False,
        "chunk_size": 128,
        "indexing_options": {"use_ocr": True, "keyword_tokenizer": "trigram"},
    }
    assert settings_of(place, text) == merged
    environ = {"SYNCD_DEFAULTS__TARGET__SETTINGS__CACHE_TTL": "600"}
    assert settings_of(place, text, environ) == {**merged, "cache_ttl": 600}
    assert settings_of(place, MINIMAL, environ) == {"cache_ttl": 600}


MISTAKES = {
    "chunk_size = 63": "chunk_size: should be greater than or equal to 64",
    "chunk_overlap = 31": "chunk_overlap: should be less than or equal to 30",
    "chunk_overlap = -1": "chunk_overlap: should be greater than or equal to 0",
    "max_num_results = 51": "max_num_results: should be less than or equal to 50",
    "max_num_results = 0": "max_num_results: should be greater than or equal to 1",
    "score_threshold = 1.1": "score_threshold: should be less than or equal to 1",
    "cache_ttl = 601": "cache_ttl: should be one of 600, 1800, 3600,",
    'cache_threshold = "close"': "cache_threshold: should be 'super_strict_match', 'close_enough'",
    'fusion_method = "sum"': "fusion_method: should be 'max' or 'rrf'",
    'embedding_model = ""': "embedding_model: ",
    "index_method = { vector = false, keyword = false }": "index_method: one of vector and keyword should be true",
    "index_method = { vector = true }": "index_method.keyword is missing",
    'indexing_options = { keyword_tokenizer = "stem" }': "keyword_tokenizer: should be 'porter' or 'trigram'",
    "retrieval_options = { boost_by = [{}] }": "retrieval_options.boost_by.0.field is missing",
    "public_endpoint_params = { default_domain_enabled = false }": "default_domain_enabled = false needs one of",
    "public_endpoint_params = { rate_limit = { requests = 0 } }": "requests: should be greater than or equal",
    "reranking = 3": "reranking: should be true or false",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_value_outside_its_limits_names_the_key(place: Place, line: str) -> None:
    fault = place.fault(with_settings(line))
    assert "mirrors.docs.target.settings." in fault
    assert MISTAKES[line] in fault


WRONG_KEYS = {
    "chunk_sise = 512": "settings.chunk_sise; did you mean chunk_size?",
    "indexing_options = { use_orc = true }": "settings.indexing_options.use_orc; did you mean use_ocr?",
    "public_endpoint_params = { mpc = {} }": "settings.public_endpoint_params.mpc; did you mean mcp?",
    'public_endpoint_params = { search_endpoint = { description = "x" } }': "description; known here: disabled",
    'retrieval_options = { boost_by = [{ field = "a", fields = "a" }] }': "boost_by.0.fields; did you mean field?",
    'type = "r2"': "settings.type; it belongs to an instance with an external source",
    'source = "bucket"': "settings.source; it belongs to an instance with an external source",
    "hybrid_search_enabled = true": "hybrid_search_enabled; use index_method = { vector = true, keyword = true }",
    "custom_metadata = []": "settings.custom_metadata; the fields come from the key metadata",
    "max_file_size = 1": "max_file_size; it is no setting of the instance; write it below [mirrors.docs.target]",
}


@pytest.mark.parametrize("line", WRONG_KEYS)
def test_a_wrong_key_names_the_right_one(place: Place, line: str) -> None:
    fault = place.fault(with_settings(line))
    assert "unknown key mirrors.docs.target." in fault
    assert WRONG_KEYS[line] in fault


def test_a_setting_above_its_table_names_its_table(place: Place) -> None:
    fault = place.fault(MINIMAL + "chunk_size = 512\n")
    assert "target.chunk_size; it is a setting of the instance; write it below [mirrors.docs.target.settings]" in fault


def uncommented(text: str) -> str:
    """The config with the settings that it shows in comments."""
    start = re.search(r"^(# )?\[mirrors\.docs\.target\.settings\].*$", text, re.MULTILINE)
    assert start
    lines = text[start.start() :].partition("\n\n")[0].splitlines()
    return text[: start.start()] + "\n".join(line.removeprefix("# ") for line in lines)


def test_the_example_shows_every_setting(place: Place) -> None:
    keys = keys_of_example("mirrors.docs.target.settings")
    text = "\n".join((MINIMAL, "[mirrors.docs.target.settings]", *keys))
    environ = {"SYNCD_MIRRORS__DOCS__PATH": str(place.base), "SYNCD_STATE_DIR": str(place.base.parent / "state")}
    assert settings_of(place, text, environ).keys() == InstanceSettingsSection.model_fields.keys()


def test_init_writes_settings_that_load(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.base / "docs").mkdir()
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
    assert run(["-c", str(place.file), "init", str(place.base / "docs"), "--target", "ai-search:default/docs"]) == 0
    text = place.file.read_text(encoding="utf-8")
    assert "settings" not in tomllib.loads(text)["mirrors"]["docs"]["target"]
    assert {"embedding_model", "index_method", "chunk_size"} <= settings_of(place, uncommented(text)).keys()
