"""The [mirrors.NAME.target] section of Workers KV, and the one that `init` writes."""

import tomllib
from pathlib import Path

import pytest

from syncd.cli.main import run
from syncd.config.target_sections import KVSection
from syncd.core.errors import ConfigError
from syncd.service.build import build_limits
from tests.unit.config.harness import ACCOUNT, Place, keys_of_example

ID = "ab" * 16


def kv(*lines: str, name: str = "docs", defaults: str = "") -> str:
    target = "\n".join(lines)
    return f"""
[cloudflare]
account_id = "{ACCOUNT}"
{defaults}
[mirrors.{name}]
path = "docs"
[mirrors.{name}.target]
type = "kv"
{target}
"""


@pytest.mark.parametrize(
    ("line", "spec"), [(f'namespace_id = "{ID}"', f"kv:{ID}"), ('namespace_title = "My docs"', "kv:My docs")]
)
def test_a_namespace_is_named_by_its_id_or_its_title(place: Place, line: str, spec: str) -> None:
    mirror = place.load(kv(line)).mirrors["docs"]
    assert isinstance(mirror.target, KVSection)
    assert mirror.target.spec == spec
    assert (mirror.target.expiration_ttl, mirror.target.stale_ttl, mirror.target.create) == (None, None, False)


def test_every_key_is_taken_up_to_its_limit(place: Place) -> None:
    text = kv(
        'namespace_title = "docs"',
        "max_file_size = 26214400",
        "max_key_length = 512",
        "expiration_ttl = 7200",
        "stale_ttl = 60",
        "create = true",
    )
    limits = build_limits(place.load(text).mirrors["docs"])
    assert (limits.max_file_size, limits.max_key_length, limits.max_key_bytes) == (26214400, 512, 512)
    assert limits.reads_lag
    assert limits.turn == 4000


def test_a_key_can_come_from_the_environment(place: Place) -> None:
    environ = {"SYNCD_MIRRORS__DOCS__TARGET__STALE_TTL": "3600"}
    target = place.load(kv('namespace_title = "docs"'), environ).mirrors["docs"].target
    assert isinstance(target, KVSection)
    assert target.stale_ttl == 3600


TITLE = 'namespace_title = "docs"'
MISTAKES = {
    "neither": ([], "mirrors.docs.target: set one of namespace_id and namespace_title"),
    "both": ([TITLE, f'namespace_id = "{ID}"'], "mirrors.docs.target: set one of namespace_id and namespace_title"),
    "short id": (['namespace_id = "abc"'], "mirrors.docs.target.namespace_id: should be the namespace's 32 lower-case"),
    "upper id": ([f'namespace_id = "{ID.upper()}"'], "mirrors.docs.target.namespace_id: should be the namespace's 32"),
    "empty title": (['namespace_title = ""'], "mirrors.docs.target.namespace_title: "),
    "ttl": (
        [TITLE, "expiration_ttl = 59"],
        "mirrors.docs.target.expiration_ttl: should be greater than or equal to 60",
    ),
    "stale": ([TITLE, "stale_ttl = 0"], "mirrors.docs.target.stale_ttl: should be greater than or equal to 60"),
    "size": ([TITLE, "max_file_size = 26214401"], "mirrors.docs.target.max_file_size: should be less than or equal"),
    "key": ([TITLE, "max_key_length = 513"], "mirrors.docs.target.max_key_length: should be less than or equal to 512"),
    "unknown": ([TITLE, "stale_tll = 60"], "unknown key mirrors.docs.target.stale_tll; did you mean stale_ttl?"),
    "of another": ([TITLE, 'instance = "docs"'], "unknown key mirrors.docs.target.instance; "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_its_key_and_the_remedy(place: Place, mistake: str) -> None:
    lines, expected = MISTAKES[mistake]
    assert expected in place.fault(kv(*lines))


def test_a_mirror_may_have_the_name_of_a_type(place: Place) -> None:
    assert "mirrors.kv.target.namespace_id: should be" in place.fault(kv('namespace_id = "abc"', name="kv"))
    assert "unknown key mirrors.kv.target.ttl; " in place.fault(kv(TITLE, "ttl = 1", name="kv"))


def test_defaults_may_hold_keys_of_a_kv_target(place: Place) -> None:
    text = kv(TITLE, defaults="[defaults.target]\nstale_ttl = 600")
    target = place.load(text).mirrors["docs"].target
    assert isinstance(target, KVSection)
    assert target.stale_ttl == 600
    fault = place.fault(kv(TITLE, defaults="[defaults.target]\nstale_tll = 600"))
    assert "unknown key defaults.target.stale_tll; did you mean stale_ttl?" in fault


def test_two_mirrors_of_one_namespace_and_owner_are_refused(place: Place) -> None:
    second = """
[mirrors.more]
path = "more"
owner = "docs"
[mirrors.more.target]
type = "kv"
namespace_title = "docs"
"""
    first = kv(TITLE).replace('path = "docs"', 'path = "docs"\nowner = "docs"')
    assert "write as the same owner" in place.fault(first + second)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("kv:docs", {"namespace_title": "docs", "create": True}),
        ('kv:My "docs"/site', {"namespace_title": 'My "docs"/site', "create": True}),
        (f"kv:{ID}", {"namespace_id": ID, "create": False}),
    ],
)
def test_init_writes_a_kv_section_that_loads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spec: str,
    wanted: dict[str, object],
) -> None:
    place = Place(tmp_path)
    (tmp_path / "docs").mkdir()
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
    assert run(["-c", str(place.file), "init", str(tmp_path / "docs"), "--target", spec]) == 0
    assert "Account / Workers KV Storage: Edit" in capsys.readouterr().out
    text = place.file.read_text(encoding="utf-8")
    assert tomllib.loads(text)["mirrors"]["docs"]["target"] == {"type": "kv", **wanted}
    assert place.load(text).mirrors["docs"].target.spec == spec


@pytest.mark.parametrize("spec", ["kv:", "kv", "r2:docs", "vectorize:", "vectorize:a/b"])
def test_init_names_the_targets_that_it_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: str) -> None:
    place = Place(tmp_path)
    assert run(["-c", str(place.file), "init", str(tmp_path), "--target", spec]) == 2
    assert "kv:TITLE-OR-ID, or vectorize:INDEX" in capsys.readouterr().err
    assert not place.file.exists()


def test_the_section_in_the_example_is_one_that_loads(place: Place) -> None:
    keys = [
        line for line in keys_of_example("mirrors.settings.target") if not line.startswith(("type", "namespace_id"))
    ]
    target = place.load(kv(*keys)).mirrors["docs"].target
    assert target.model_fields_set == KVSection.model_fields.keys() - {"namespace_id"}


@pytest.mark.parametrize(
    ("ttl", "interval", "renew_s"),
    [(7200, 3600, 1800.0), (86400, 3600, 43200.0), (60, 30, 15.0), (60, 10, 30.0), (60, 5, 30.0)],
)
def test_entries_are_renewed_at_half_their_life_or_before_it_is_too_late(
    place: Place, ttl: int, interval: int, renew_s: float
) -> None:
    defaults = f"[defaults]\nreconcile_interval = {interval}"
    text = kv(TITLE, f"expiration_ttl = {ttl}", defaults=defaults)
    assert build_limits(place.load(text).mirrors["docs"]).renew_s == renew_s


def test_an_interval_in_which_entries_would_expire_is_refused(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"expiration_ttl: should be at least twice .* 7200 s.* to 30 at most"):
        place.load(kv(TITLE, "expiration_ttl = 60"))
