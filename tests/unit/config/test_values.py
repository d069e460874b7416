"""Every key, its default, and the order of its sources."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from syncd.config.instance_settings import ConfigSection
from syncd.config.schema import Config, mirror_config
from syncd.config.sources import load, login, secrets
from syncd.config.target_sections import AISearchSection
from syncd.core.errors import ConfigError
from tests.unit.config.harness import ACCOUNT, MINIMAL, Place, toml


def value_of(config: Config, dotted: str) -> Any:
    found: Any = config
    for part in dotted.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


# The documented defaults.
DEFAULTS: dict[str, Any] = {
    "cloudflare.base_url": "https://api.cloudflare.com/client/v4",
    "cloudflare.quota": "1050/300s",
    "cloudflare.tpslimit": 100.0,
    "cloudflare.transfers": 8,
    "cloudflare.timeout": 60.0,
    "cloudflare.retry_for": 120.0,
    "web.listen": "",
    "web.metrics_listen": "",
    "notify.problems": 10,
    "mirrors.docs.include": ["**/*"],
    "mirrors.docs.exclude": [],
    "mirrors.docs.key_prefix": "",
    "mirrors.docs.owner": "",
    "mirrors.docs.prune": "owned",
    "mirrors.docs.max_delete": "25%",
    "mirrors.docs.settle": 0.5,
    "mirrors.docs.settle_max": 30.0,
    "mirrors.docs.reconcile_interval": 3600.0,
    "mirrors.docs.watch": "auto",
    "mirrors.docs.poll_interval": 30.0,
    "mirrors.docs.long_names": "reject",
    "mirrors.docs.target.metadata": {"title": "title", "description": "description", "modified": "modified"},
    "mirrors.docs.target.type": "ai-search",
    "mirrors.docs.target.namespace": "default",
    "mirrors.docs.target.max_file_size": 10 * 1024 * 1024,
    "mirrors.docs.target.max_key_length": 128,
    "mirrors.docs.target.create": False,
}

OTHERS: dict[str, Any] = {
    "cloudflare.base_url": "http://127.0.0.1:8787/client/v4",
    "cloudflare.quota": "",
    "cloudflare.tpslimit": 0,
    "cloudflare.transfers": 3,
    "cloudflare.timeout": 5.5,
    "cloudflare.retry_for": 0,
    "web.listen": "[::1]:8385",
    "web.metrics_listen": "0.0.0.0:9385",
    "notify.problems": 0,
    "mirrors.docs.include": ["*.md", "notes/"],
    "mirrors.docs.exclude": ["drafts/"],
    "mirrors.docs.key_prefix": "handbook/",
    "mirrors.docs.owner": "laptop",
    "mirrors.docs.prune": "never",
    "mirrors.docs.max_delete": 12,
    "mirrors.docs.settle": 2,
    "mirrors.docs.settle_max": 60,
    "mirrors.docs.reconcile_interval": 60,
    "mirrors.docs.watch": "poll",
    "mirrors.docs.poll_interval": 5,
    "mirrors.docs.long_names": "shorten",
    "mirrors.docs.target.namespace": "team",
    "mirrors.docs.target.max_file_size": 4194304,
    "mirrors.docs.target.max_key_length": 64,
    "mirrors.docs.target.create": True,
}


@pytest.mark.parametrize(("key", "value"), DEFAULTS.items())
def test_a_key_that_is_not_given_has_the_documented_default(place: Place, key: str, value: object) -> None:
    assert value_of(place.load(), key) == value


@pytest.mark.parametrize(("key", "value"), OTHERS.items())
def test_a_key_of_the_file_beats_its_default(place: Place, key: str, value: object) -> None:
    assert value_of(place.load(place.with_key(key, toml(value))), key) == value


@pytest.mark.parametrize(("key", "value"), OTHERS.items())
def test_a_variable_beats_the_file(place: Place, key: str, value: object) -> None:
    variable = "SYNCD_" + key.replace(".", "__").upper()
    written = toml(value) if isinstance(value, list) else str(value)
    in_file = place.with_key(key, toml(DEFAULTS[key]))
    assert value_of(place.load(in_file, {variable: written}), key) == value


def test_the_whole_config_may_come_from_the_environment(place: Place) -> None:
    environ = {
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
        "SYNCD_STATE_DIR": "/var/lib/elsewhere",
        "SYNCD_MIRRORS__DOCS__PATH": "/srv/docs",
        "SYNCD_MIRRORS__DOCS__TARGET__TYPE": "ai-search",
        "SYNCD_MIRRORS__DOCS__TARGET__INSTANCE": "docs",
        "SYNCD_MIRRORS__DOCS__EXCLUDE": '["*.tmp", "*.bak"]',
        "SYNCD_MIRRORS__WIKI__PATH": "/srv/wiki",
        "SYNCD_MIRRORS__WIKI__TARGET__TYPE": "ai-search",
        "SYNCD_MIRRORS__WIKI__TARGET__INSTANCE": "wiki",
        "SYNCD_DEFAULTS__PRUNE": "never",
    }
    config = place.load("", environ)
    assert list(config.mirrors) == ["docs", "wiki"]
    assert config.mirrors["docs"].exclude == ["*.tmp", "*.bak"]
    assert config.mirrors["wiki"].prune == "never"
    assert config.state_dir == Path("/var/lib/elsewhere")


@pytest.mark.parametrize(
    ("variable", "key", "value"),
    [
        ("CLOUDFLARE_ACCOUNT_ID", "account_id", "f" * 32),
        ("CLOUDFLARE_API_BASE_URL", "base_url", "http://localhost:1/v4"),
        ("CLOUDFLARE_EMAIL", "email", "me@example.org"),
    ],
)
def test_cloudflares_own_variables_are_understood(place: Place, variable: str, key: str, value: str) -> None:
    assert value_of(place.load(MINIMAL, {variable: value}), f"cloudflare.{key}") == value


def test_only_a_key_that_is_a_list_is_read_as_json(place: Place) -> None:
    environ = {"SYNCD_MIRRORS__DOCS__KEY_PREFIX": "[draft] ", "SYNCD_WEB__LISTEN": "[::1]:8385"}
    config = place.load(MINIMAL, environ)
    assert (config.mirrors["docs"].key_prefix, config.web.listen) == ("[draft] ", "[::1]:8385")


def test_our_own_variable_beats_cloudflares(place: Place) -> None:
    environ = {"CLOUDFLARE_ACCOUNT_ID": "a" * 32, "SYNCD_CLOUDFLARE__ACCOUNT_ID": "b" * 32}
    assert place.load(MINIMAL, environ).cloudflare.account_id == "b" * 32


def test_variables_of_others_and_of_shell_completion_are_left_alone(place: Place) -> None:
    place.load(MINIMAL, {"SYNCDISH": "x", "CLOUDFLARE_ZONE": "x", "SYNCD_COMPLETE": "bash_source", "HOME": "/x"})


# -- defaults


def test_defaults_stand_under_every_mirror_and_its_own_value_wins(place: Place) -> None:
    config = place.load(
        MINIMAL
        + """
[mirrors.wiki]
path = "wiki"
exclude = ["*.bak"]
prune = "all"
[mirrors.wiki.target]
instance = "wiki"
max_key_length = 100

[defaults]
exclude = ["*.tmp"]
prune = "never"
settle = 9
[defaults.target]
type = "ai-search"
namespace = "team"
max_key_length = 50
"""
    )
    docs, wiki = config.mirrors["docs"], config.mirrors["wiki"]
    assert (docs.exclude, docs.prune, docs.settle) == (["*.tmp"], "never", 9)
    assert (wiki.exclude, wiki.prune, wiki.settle) == (["*.bak"], "all", 9)
    assert isinstance(docs.target, AISearchSection)
    assert isinstance(wiki.target, AISearchSection)
    assert (docs.target.namespace, docs.target.max_key_length) == ("team", 50)
    assert (wiki.target.namespace, wiki.target.max_key_length, wiki.target.spec) == ("team", 100, "ai-search:team/wiki")


# -- paths


def test_paths_are_relative_to_the_config_file_and_the_tilde_is_home(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(place.base / "home"))
    text = (
        'state_dir = "../state"\n'
        + MINIMAL.replace('"docs"\n\n', '"./docs/../texts"\n\n')
        + """
[mirrors.wiki]
path = "~/wiki"
[mirrors.wiki.target]
type = "ai-search"
instance = "wiki"
"""
    )
    config = place.load(text)
    assert config.mirrors["docs"].path == place.base / "texts"
    assert config.mirrors["wiki"].path == place.base / "home" / "wiki"
    assert config.state_dir == place.base.parent / "state"


@pytest.mark.parametrize(
    ("environ", "state_dir"),
    [
        ({"STATE_DIRECTORY": "/var/lib/syncd", "XDG_STATE_HOME": "/xdg"}, "/var/lib/syncd"),
        ({"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}, "/var/lib/one"),
        ({"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/xdg"}, "/xdg/syncd"),
        ({"XDG_STATE_HOME": ""}, "/home/someone/.local/state/syncd"),
        ({"SYNCD_STATE_DIR": "/named", "STATE_DIRECTORY": "/var/lib/syncd"}, "/named"),
    ],
)
def test_the_state_directory_comes_from_the_config_systemd_or_xdg(
    place: Place, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], state_dir: str
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert place.load(MINIMAL, environ).state_dir == Path(state_dir)


def test_a_state_directory_of_the_file_beats_systemds(place: Place) -> None:
    text = 'state_dir = "/named"\n' + MINIMAL
    assert place.load(text, {"STATE_DIRECTORY": "/var/lib/syncd"}).state_dir == Path("/named")


def test_without_any_home_a_named_state_directory_is_enough(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert place.load('state_dir = "/named"\n' + MINIMAL, {"XDG_STATE_HOME": ""}).state_dir == Path("/named")
    assert "state_dir" in place.fault(MINIMAL, {"XDG_STATE_HOME": ""})


# -- which file


def test_the_config_is_sought_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, xdg = tmp_path / "here", tmp_path / "xdg"
    places = [tmp_path / "flag.toml", tmp_path / "env.toml", here / "syncd.toml", xdg / "syncd" / "config.toml"]
    for number, file in enumerate(places):
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(MINIMAL.replace('instance = "docs"', f'instance = "i{number}"'))
    monkeypatch.chdir(here)
    environ = {"SYNCD_CONFIG": str(places[1]), "XDG_CONFIG_HOME": str(xdg), "XDG_STATE_HOME": str(tmp_path / "state")}

    def taken(flag: Path | None = None) -> str:
        target = load(flag, environ).mirrors["docs"].target
        assert isinstance(target, AISearchSection)
        return target.instance

    assert taken(places[0]) == "i0"
    assert taken() == "i1"
    del environ["SYNCD_CONFIG"]
    assert taken() == "i2"
    places[2].unlink()
    assert taken() == "i3"
    places[3].unlink()
    with pytest.raises(ConfigError, match=r"no config file \(tried syncd.toml, .*/etc/syncd/config.toml\).*syncd init"):
        taken()


def test_without_a_file_one_variable_holds_all_mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = {"type": "kv", "namespace_title": "docs", "create": True}
    mirrors = {"docs": {"path": "docs", "exclude": ["*.tmp"], "target": target}}
    environ = {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "XDG_STATE_HOME": str(tmp_path), "SYNCD_MIRRORS": json.dumps(mirrors)}
    mirror = load(None, environ).mirrors["docs"]
    assert (mirror.path, mirror.exclude, mirror.target.create) == (tmp_path / "docs", ["*.tmp"], True)
    mirrors["docs"]["pathh"] = "x"
    with pytest.raises(ConfigError, match=r"environment variable SYNCD_MIRRORS: unknown key mirrors\.docs\.pathh"):
        load(None, environ | {"SYNCD_MIRRORS": json.dumps(mirrors)})


def test_without_a_file_the_environment_is_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {
        "XDG_CONFIG_HOME": str(tmp_path),
        "CLOUDFLARE_ACCOUNT_ID": "0" * 32,
        "SYNCD_STATE_DIR": "state",
        "SYNCD_MIRRORS__DOCS__PATH": "docs",
        "SYNCD_MIRRORS__DOCS__TARGET__TYPE": "ai-search",
        "SYNCD_MIRRORS__DOCS__TARGET__INSTANCE": "docs",
    }
    config = load(None, environ)
    assert (config.mirrors["docs"].path, config.state_dir) == (tmp_path / "docs", tmp_path / "state")
    with pytest.raises(ConfigError, match="does not exist"):
        load(None, environ | {"SYNCD_CONFIG": str(tmp_path / "missing.toml")})
    with pytest.raises(ConfigError, match="SYNCD_MIRRORS__DOCS__PAHT"):
        load(None, environ | {"SYNCD_MIRRORS__DOCS__PAHT": "docs"})
    with pytest.raises(ConfigError, match=r"mirrors\.docs\.path"):
        load(None, {name: text for name, text in environ.items() if not name.endswith("__PATH")})
    (tmp_path / "syncd.toml").write_text("[mirrors.docs]\npath = 'other'\n[mirrors.docs.target]\ninstance = 'file'\n")
    del environ["SYNCD_MIRRORS__DOCS__PATH"]
    assert load(None, environ).mirrors["docs"].path == tmp_path / "other"


@pytest.mark.parametrize("name", ["missing.toml", "n" * 300, "folder"])
def test_a_named_config_that_is_no_file_is_an_error_and_no_other_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    for flag, environ in ((tmp_path / name, {}), (None, {"SYNCD_CONFIG": str(tmp_path / name)})):
        with pytest.raises(ConfigError, match="is a directory; name the file" if name == "folder" else "syncd init"):
            load(flag, environ)


def test_a_place_that_cannot_be_examined_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A name that is too long stands for a folder of another user: the system refuses to examine it.
    with pytest.raises(ConfigError, match="no config file"):
        load(None, {"XDG_CONFIG_HOME": "/" + "n" * 300})


# -- credentials

TOKEN = "s3cr3t-t0ken"


def test_a_token_comes_from_the_environment_a_file_a_credential_or_the_config(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "token").write_text(f" {TOKEN}-file\n")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "cloudflare_api_token").write_text(f"{TOKEN}-credential\n")
    in_config = place.with_key("cloudflare.api_token", toml(f"{TOKEN}-config"))
    in_file = place.with_key("cloudflare.api_token_file", toml("token"))
    credential = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    variable = {"CLOUDFLARE_API_TOKEN": f"{TOKEN}-variable"}
    key = {"CLOUDFLARE_EMAIL": "me@example.org", "CLOUDFLARE_API_KEY": "key"}

    def token(text: str, *environs: dict[str, str]) -> tuple[str, str | None]:
        config = place.load(text, {name: value for environ in environs for name, value in environ.items()})
        found = login(config)
        assert secrets(config) == [found[0]]
        return found

    assert token(in_config) == (f"{TOKEN}-config", None)
    assert token(in_file) == (f"{TOKEN}-file", None)
    assert token(in_config, credential) == token(in_file, credential) == (f"{TOKEN}-credential", None)
    assert token(in_config, credential, variable) == token(in_file, variable) == (f"{TOKEN}-variable", None)
    assert token(in_config, key) == token(in_file, key, credential) == ("key", "me@example.org")
    assert token(MINIMAL, variable, key) == (f"{TOKEN}-variable", None)
    assert token(MINIMAL, credential, {"CLOUDFLARE_EMAIL": "me@example.org"}) == (f"{TOKEN}-credential", None)
    # A variable that is set to nothing is not set.
    assert token(in_config, {"CLOUDFLARE_API_TOKEN": ""}) == (f"{TOKEN}-config", None)


def test_a_token_file_of_the_environment_is_read_too(place: Place) -> None:
    (place.base / "token").write_text(TOKEN)
    config = place.load(
        place.with_key("cloudflare.api_token", toml("weaker")),
        {"SYNCD_CLOUDFLARE__API_TOKEN_FILE": str(place.base / "token")},
    )
    assert login(config) == (TOKEN, None)


def test_secrets_are_in_no_representation_of_the_config(place: Place) -> None:
    config = place.load(MINIMAL, {"CLOUDFLARE_API_TOKEN": TOKEN, "SYNCD_CLOUDFLARE__API_KEY": TOKEN})
    for text in (repr(config), str(config), config.model_dump_json(), str(config.model_dump())):
        assert TOKEN not in text


def test_a_config_without_a_token_loads_and_login_names_the_remedy(place: Place) -> None:
    config = place.load()
    assert secrets(config) == []
    with pytest.raises(ConfigError, match=r"CLOUDFLARE_API_TOKEN.*AI Search: Edit"):
        login(config)


def test_a_config_loads_without_its_token_file(place: Place) -> None:
    config = place.load(place.with_key("cloudflare.api_token_file", toml("nowhere")))
    assert secrets(config) == []
    with pytest.raises(ConfigError, match=r"cloudflare.api_token_file.*No such file"):
        login(config)


def test_a_missing_mirror_is_named_with_the_configured_ones(place: Place) -> None:
    with pytest.raises(ConfigError, match="no mirror 'wiki' is configured; there is: docs"):
        mirror_config(place.load(), "wiki")


def test_a_folder_or_a_file_in_the_place_of_a_mirror_is_named(place: Place) -> None:
    config = place.load()
    with pytest.raises(ConfigError, match=r"that is the folder of mirror docs$"):
        mirror_config(config, str(config.mirrors["docs"].path))
    with pytest.raises(ConfigError, match=r"there is: docs; for a file: syncd explain guides/a.md$"):
        mirror_config(config, "guides/a.md")


def test_the_example_at_the_root_loads_once_account_and_path_are_set(place: Place, tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "config.example.toml"
    text = example.read_text()
    (tmp_path / "docs").mkdir()
    (tmp_path / "token").write_text(TOKEN)
    state = str(tmp_path / "state")
    place.file.write_text(text)
    loaded = load(place.file, {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "SYNCD_STATE_DIR": state})
    for name, mirror in loaded.mirrors.items():
        environ = {f"SYNCD_MIRRORS__{name.upper()}__PATH": str(tmp_path / "docs")}
        environ |= {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "SYNCD_STATE_DIR": state, "CLOUDFLARE_API_TOKEN": TOKEN}
        config = place.load(text, environ)
        assert config.mirrors[name].path == tmp_path / "docs"
        assert login(config) == (TOKEN, None)
        assert mirror.target.type == "ai-search"


def test_a_config_in_a_folder_that_is_closed_to_this_user_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(ConfigError, match="Permission denied; let this user read it"):
        load(tmp_path / "closed" / "syncd.toml", {})


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("cloudflare.timeout", "5m", 300.0),
        ("cloudflare.retry_for", "1.5h", 5400.0),
        ("mirrors.docs.settle", "250ms", 0.25),
        ("mirrors.docs.reconcile_interval", "1d", 86400.0),
        ("mirrors.docs.target.max_file_size", "2MiB", 2 * 1024 * 1024),
        ("mirrors.docs.target.max_file_size", "10MB", 10_000_000),
        ("mirrors.docs.target.settings.cache_ttl", "1h", 3600),
    ],
)
def test_durations_and_sizes_have_units_in_the_file_and_in_the_environment(
    place: Place, key: str, value: str, found: float
) -> None:
    variable = "SYNCD_" + key.upper().replace(".", "__")
    number = str(found)
    configs = [
        place.load(place.with_key(key, toml(value))),
        place.load(place.with_key(key, number)),
        place.load(MINIMAL, {variable: value}),
        place.load(MINIMAL, {variable: number}),
    ]
    assert [value_of(config, key) for config in configs] == [found] * 4


NUMBERS = {
    "cloudflare.transfers": "should be a whole number",
    "cloudflare.tpslimit": "should be a number",
    "cloudflare.timeout": "should be a number of seconds",
    "notify.problems": "should be a whole number",
    "mirrors.docs.settle": "should be a number of seconds",
    "mirrors.docs.max_delete": "should be a number of entries",
    "mirrors.docs.target.max_file_size": "should be a number of bytes",
    "mirrors.docs.target.max_key_length": "should be a whole number",
    "mirrors.docs.target.settings.max_num_results": "should be a whole number",
    "mirrors.docs.target.settings.score_threshold": "should be a number",
}


@pytest.mark.parametrize("value", ["true", "false"])
@pytest.mark.parametrize("key", NUMBERS)
def test_a_truth_value_is_no_number(place: Place, key: str, value: str) -> None:
    assert f"{key}: {NUMBERS[key]}" in place.fault(place.with_key(key, value))


def test_every_number_of_the_config_refuses_a_truth_value() -> None:
    """The keys are found in the schema of the config, so that a new one cannot be forgotten."""

    def numbers(part: Any, at: str = "") -> Iterator[str]:
        kinds = [part, *part.get("anyOf", [])]
        if any(kind.get("type") in ("integer", "number") for kind in kinds):
            yield at
        for key, inner in part.get("properties", {}).items():
            yield from numbers(inner, key)

    models = Config.model_json_schema()["$defs"]
    sections = {model.__name__: model for model in descendants(ConfigSection)}
    found = {(name, key) for name, model in models.items() for key in numbers(model)}
    assert {"transfers", "tpslimit", "settle", "chunk_size", "stale_ttl"} <= {key for _, key in found}
    for name, key in found:
        with pytest.raises(ValidationError) as caught:
            sections[name].model_validate({key: True})
        kinds = {each["type"] for each in caught.value.errors() if each["loc"][0] == key}
        assert kinds & {"int_parsing", "float_parsing", "value_error"}, (name, key)


def descendants(model: type[ConfigSection]) -> Iterator[type[ConfigSection]]:
    for inner in model.__subclasses__():
        yield inner
        yield from descendants(inner)


@pytest.mark.parametrize("key", ["state_dir", "mirrors.docs.path", "cloudflare.api_token_file"])
def test_an_empty_path_is_not_the_directory_of_the_config(place: Place, key: str) -> None:
    assert f"{key}: should be a path, not an empty text" in place.fault(place.with_key(key, '""'))
    variable = f"SYNCD_{key.upper().replace('.', '__')}"
    assert f"{variable}: {key}: should be a path, not an empty text" in place.fault(MINIMAL, {variable: ""})
