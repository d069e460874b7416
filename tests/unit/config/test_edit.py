"""The config file is changed in single lines, or not at all."""

import stat
import tomllib
from pathlib import Path

import pytest

from syncd.config.edit import as_toml, change_config, edited
from syncd.core.errors import ConfigError

INSTANCE = ("target", "instance")
CONFIG = """# The documentation.
[mirrors.docs]
path = "/srv/docs"          # the folder
include = [
    "**/*.md",
]

[mirrors.docs.target]
type = "ai-search"
instance = "docs" # in use
"""


def accept(_: Path) -> None:
    """Accept every config."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('instance = "docs" # in use', 'instance = "docs-2" # in use'),
        ("instance='docs'", 'instance="docs-2"'),
        ('  "instance"  =  "a \\" = # b"  ', '  "instance"  =  "docs-2"  '),
    ],
)
def test_a_value_is_replaced_and_the_rest_of_its_line_stays(line: str, wanted: str) -> None:
    text = CONFIG.replace('instance = "docs" # in use', line)
    assert edited(text, "docs", {INSTANCE: "docs-2"}) == text.replace(line, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            '[mirrors]\ndocs = { path = "d", target = { type = "ai-search", instance = "docs" } }\n',
            '[mirrors]\ndocs = { path = "d", target = { type = "ai-search", instance = "docs-2" } }\n',
        ),
        ('[mirrors.docs]\ntarget.instance = "docs"\n', '[mirrors.docs]\ntarget.instance = "docs-2"\n'),
        ('mirrors.docs.target.instance = "docs"', 'mirrors.docs.target.instance = "docs-2"'),
    ],
)
def test_a_value_is_replaced_in_each_form_of_its_table(text: str, wanted: str) -> None:
    assert edited(text, "docs", {INSTANCE: "docs-2"}) == wanted


def test_only_the_named_mirror_changes() -> None:
    text = CONFIG + CONFIG.replace("docs", "other").removeprefix("# The othermentation.\n")
    changed = edited(text, "other", {INSTANCE: "docs-2"})
    assert changed is not None
    before, now = tomllib.loads(text)["mirrors"], tomllib.loads(changed)["mirrors"]
    assert now["docs"] == before["docs"]
    assert now["other"]["target"]["instance"] == "docs-2"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("target", "namespace"), "other"),
        (("target", "settings", "embedding_model"), "@cf/baai/bge-m3"),
        (("target", "settings", "indexing_options", "use_ocr"), True),
        (("key_prefix",), "v2/"),
    ],
)
@pytest.mark.parametrize("more", ["", "\n[mirrors.docs.target.settings]\nchunk_size = 512\n"])
def test_a_missing_key_gets_a_line_in_its_table(key: tuple[str, ...], value: object, more: str) -> None:
    changed = edited(CONFIG + more, "docs", {key: value})
    assert changed is not None
    wanted = tomllib.loads(CONFIG + more)
    table = wanted["mirrors"]["docs"]
    for part in key[:-1]:
        table = table.setdefault(part, {})
    table[key[-1]] = value
    assert tomllib.loads(changed) == wanted
    assert len(changed.splitlines()) == len((CONFIG + more).splitlines()) + 1


@pytest.mark.parametrize(
    "text",
    [
        '[mirrors.docs]\npath = "d"\ntarget = { type = "ai-search" }\n',
        CONFIG.replace('"docs" # in use', '"""\ndocs"""'),
        "mirrors = [",
        "",
    ],
)
def test_a_text_whose_line_cannot_be_changed_safely_has_no_edit(text: str) -> None:
    assert edited(text, "docs", {INSTANCE: "docs-2"}) is None


def test_a_file_keeps_its_mode_and_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "syncd.toml"
    real.write_text(CONFIG)
    real.chmod(0o640)
    link.symlink_to("real.toml")
    change_config(link, "docs", {INSTANCE: "docs-2"}, accept)
    assert link.is_symlink()
    assert real.read_text() == CONFIG.replace('"docs" # in use', '"docs-2" # in use')
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert names(tmp_path) == ["real.toml", "syncd.toml"]


def test_a_config_that_does_not_load_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "syncd.toml"
    file.write_text(CONFIG)
    (tmp_path / ".syncd.toml.syncd-new").write_text("left by a killed command")

    def refuse(new: Path) -> None:
        assert new.read_text() != CONFIG
        raise ConfigError("another source wins")

    with pytest.raises(ConfigError, match="another source wins"):
        change_config(file, "docs", {INSTANCE: "docs-2"}, refuse)
    assert (file.read_text(), names(tmp_path)) == (CONFIG, ["syncd.toml"])


@pytest.mark.parametrize("data", [CONFIG.replace("\n", "\r\n").encode(), CONFIG.encode("utf-16"), None])
def test_the_error_about_an_unsafe_edit_names_the_lines_and_the_file_stays(tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "syncd.toml"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(ConfigError, match=r'mirrors\.docs\.target\.instance = "docs-2"; then: syncd reload'):
        change_config(file, "docs", {INSTANCE: "docs-2"}, accept)
    assert data is None or file.read_bytes() == data


def test_the_error_about_a_file_that_cannot_be_replaced_names_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is mounted alone into a container cannot be replaced: EBUSY."""
    file = tmp_path / "syncd.toml"
    file.write_text(CONFIG)

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    with pytest.raises(
        ConfigError, match=r"cannot be replaced \(Device or resource busy\); change the config yourself"
    ):
        change_config(file, "docs", {INSTANCE: "docs-2"}, accept)
    assert (file.read_text(), names(tmp_path)) == (CONFIG, ["syncd.toml"])


@pytest.mark.parametrize("value", ["a", 'ü\n\t"\\', "@cf/x", 5, 0.25, True, False])
def test_a_value_is_written_as_toml(value: object) -> None:
    assert tomllib.loads(f"value = {as_toml(value)}") == {"value": value}
