"""config.example.toml: every setting with its description, unit and default."""

import textwrap
from collections.abc import Iterator

from pydantic import BaseModel

from generate.project import SCHEMA_URL
from generate.settings import Setting, settings
from syncd.config.schema import Config, MirrorConfig
from syncd.config.target_sections import AISearchSection, KVSection, VectorizeSection

_WIDTH = 118
_HEAD = """\
#:schema {url}
# All settings of syncd with their defaults. Set account_id and path (marked "set this") before you use this file.
# syncd reads the first of: -c PATH, $SYNCD_CONFIG, ./syncd.toml, $XDG_CONFIG_HOME/syncd/config.toml,
# /etc/syncd/config.toml.
#
# Every key can come from the environment, which has priority over the file. The name of the variable is SYNCD_ and the
# path of the key with "__" between its parts, such as SYNCD_CLOUDFLARE__TPSLIMIT=0 or
# SYNCD_MIRRORS__DOCS__EXCLUDE='["drafts/"]'. Relative paths start at the directory of this file. "~" is the home
# directory. Unknown keys and bad values end syncd with exit code 2 and one line for each, which names its line here.
#
# Durations are numbers of seconds, or "500ms", "30s", "5m", "1h" and "1d". Sizes are numbers of bytes, or "4MiB" and
# "10MB". The first line lets editors complete the keys and show their descriptions.
"""
_SET_THIS = frozenset({"account_id", "path"})


def example() -> str:
    """Return the example."""
    lines = _HEAD.format(url=SCHEMA_URL).splitlines()
    for setting in settings(Config):
        if setting.table is None:
            lines += ["", *_setting(setting)]
        elif setting.name == "defaults":
            lines += [
                "",
                *_comment(setting.description),
                "[defaults]",
                '# max_delete = "10%"',
                '# exclude = ["drafts/"]',
            ]
        elif setting.name != "mirrors":
            lines += ["", *_comment(setting.description), f"[{setting.name}]", *_settings(setting.table)]
    mirrors = next(setting for setting in settings(Config) if setting.name == "mirrors")
    lines += ["", *_comment(mirrors.description), "[mirrors.docs]"]
    lines += _settings(MirrorConfig, skipped="target")
    lines += ["", *_target("mirrors.docs", AISearchSection)]
    for name, model in (("settings", KVSection), ("vectors", VectorizeSection)):
        lines += ["", *_commented(_target(f"mirrors.{name}", model))]
    return "\n".join(lines) + "\n"


def _target(mirror: str, model: type[BaseModel]) -> Iterator[str]:
    yield from _comment(f"A target of type {_kind(model)}. {(model.__doc__ or '').partition(chr(10))[0]}")
    yield from (f"[{mirror}.target]", f"type = {_kind(model)}", "", *_settings(model, skipped="type"))
    for setting in settings(model):
        if setting.table:
            yield from ("", *_comment(setting.description), f"[{mirror}.target.{setting.name}]")
            yield from _settings(setting.table)


def _kind(model: type[BaseModel]) -> str:
    return f'"{settings(model)[0].choices[0]}"'


def _settings(model: type[BaseModel], skipped: str = "") -> Iterator[str]:
    first = True
    for setting in settings(model):
        if setting.name == skipped or (setting.table and setting.default):
            continue
        if not first:
            yield ""
        yield from _setting(setting)
        first = False


def _setting(setting: Setting) -> Iterator[str]:
    """Yield the description of a setting, and its default. A setting without a default is a comment with an example."""
    yield from _comment(setting.description)
    if setting.required:
        yield f"{setting.name} = {setting.example}{'   # set this' if setting.name in _SET_THIS else ''}"
    elif setting.default is None:
        yield f"# {setting.name} = {setting.example}{_unit(setting)}"
    else:
        such = f"such as {setting.example}" if setting.example else ""
        yield f"{setting.name} = {setting.default}{f'   # {such}' if such else _unit(setting)}"


def _unit(setting: Setting) -> str:
    return f"   # {setting.unit}" if setting.unit else ""


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_on_hyphens=False)]


def _commented(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines of a part that is a comment as a whole. Its descriptions begin with ##."""
    for line in lines:
        if line.startswith("# ") and " = " not in line[:40]:
            yield f"#{line}"
        else:
            yield f"# {line.removeprefix('# ')}" if line else "#"
