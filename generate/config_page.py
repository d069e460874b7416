"""The reference page of the config, and syncd.toml(5)."""

from collections.abc import Iterator

from pydantic import BaseModel

from generate.blocks import Block, Code, Heading, Item, Text, man_page, markdown
from generate.project import SCHEMA_URL
from generate.settings import Setting, settings
from syncd import __version__
from syncd.config.schema import Config, MirrorConfig
from syncd.config.target_sections import AISearchSection, KVSection, VectorizeSection

_MINIMAL = """\
[cloudflare]
account_id = "0123456789abcdef0123456789abcdef"

[mirrors.docs]
path = "/srv/docs"

[mirrors.docs.target]
type = "ai-search"
instance = "docs"
create = true"""
_GENERAL = """\
Every key can come from the environment, which has priority over the file. The name of the variable is `SYNCD_` and the
path of the key with `__` between its parts, such as `SYNCD_CLOUDFLARE__TPSLIMIT=0` or
`SYNCD_MIRRORS__DOCS__PATH=/srv/docs`. A list or a table is written as JSON. If such variables define a mirror,
no file is needed. The order is: option of the command, environment,
credential of systemd, file, default.

A duration is a number of seconds, or a text such as `500ms`, `30s`, `5m`, `1h` or `1d`. A size is a number of bytes, or
a text such as `4MiB` or `10MB`. Relative paths start at the directory of the file. `~` is the home directory.

An unknown key, a bad value or a missing file ends syncd with exit code 2 and one line for each, which names the key,
its line and the remedy."""
_TARGETS = (AISearchSection, KVSection, VectorizeSection)


def page() -> str:
    """Return the page of the reference."""
    blocks: list[Block] = [
        Text(
            "The config is one TOML file. syncd reads the first of: the path of `-c`, `$SYNCD_CONFIG`, `./syncd.toml`,"
            " `$XDG_CONFIG_HOME/syncd/config.toml`, `/etc/syncd/config.toml`. `syncd init` writes one."
            " [config.example.toml](../../config.example.toml) shows all keys, and `syncd check` checks a config."
        ),
        Code(_MINIMAL, "toml"),
        *_general(),
        Text(
            "The line `#:schema` at the beginning of a file lets an editor complete the keys and show their"
            " descriptions, such as Visual Studio Code with Even Better TOML. `syncd schema` prints the same schema:"
        ),
        Code(f"#:schema {SCHEMA_URL}", "toml"),
        Text(
            "The schema requires no key, since each may come from the environment or from `[defaults]`. syncd also"
            " takes numbers, `true` and `false` in quotes, as the environment has them; the schema asks for plain ones."
        ),
    ]
    for title, text, model, skipped in _sections():
        blocks += [Heading(title), *([Text(text)] if text else [])]
        for setting in settings(model) if model else _top():
            if setting.name not in skipped:
                blocks += _markdown_setting(setting)
    return markdown("Config", blocks, "`syncd/config`")


def manual() -> str:
    """Return syncd.toml(5)."""
    blocks: list[Block] = [Heading("Description"), *_general()]
    for title, text, model, skipped in _sections():
        blocks += [Heading(title.replace("`", "")), *([Text(text)] if text else [])]
        for setting in settings(model) if model else _top():
            if setting.name not in skipped:
                facts = f"Type: {_kind(setting)}. {_facts(setting)}".strip()
                blocks.append(Item(setting.name, f"{setting.description}\n\n{facts}"))
    blocks += [Heading("Example"), Code(_MINIMAL), Heading("See also"), Text("syncd(1)")]
    return man_page("syncd.toml", 5, "config of syncd", __version__, blocks)


def _general() -> list[Text]:
    return [Text(" ".join(part.split())) for part in _GENERAL.split("\n\n")]


def _top() -> tuple[Setting, ...]:
    return tuple(setting for setting in settings(Config) if setting.table is None)


def _sections() -> Iterator[tuple[str, str, type[BaseModel] | None, tuple[str, ...]]]:
    """Yield (title, text, model, settings that have a section of their own)."""
    yield "Before all sections", "", None, ()
    for setting in settings(Config):
        if setting.name == "defaults":
            yield "`[defaults]`", setting.description, MirrorConfig, tuple(MirrorConfig.model_fields)
        elif setting.name == "mirrors":
            yield "`[mirrors.NAME]`", setting.description, MirrorConfig, ("target",)
        elif setting.table:
            yield f"`[{setting.name}]`", setting.description, setting.table, ()
    for target in _TARGETS:
        kind = settings(target)[0].choices[0]
        text = (target.__doc__ or "").partition("\n")[0]
        yield f'`[mirrors.NAME.target]` with type = "{kind}"', text, target, ("type", "settings")
    yield from _tables("`[mirrors.NAME.target.settings]`", _setting(AISearchSection, "settings"))


def _tables(title: str, setting: Setting) -> Iterator[tuple[str, str, type[BaseModel] | None, tuple[str, ...]]]:
    """Yield the section of a setting that is a table, and those of the tables in it."""
    assert setting.table
    yield title, setting.description, setting.table, ()
    for inner in settings(setting.table):
        if inner.table:
            yield from _tables(f"{title.removesuffix(']`')}.{inner.name}]`", inner)


def _setting(model: type[BaseModel], name: str) -> Setting:
    return next(setting for setting in settings(model) if setting.name == name)


def _markdown_setting(setting: Setting) -> Iterator[Block]:
    yield Heading(f"`{setting.name}`", 2)
    yield Text(setting.description)
    yield Text(f"Type: {_kind(setting)}. {_facts(setting)}".strip())


def _kind(setting: Setting) -> str:
    if setting.choices:
        return "one of " + ", ".join(f'"{choice}"' for choice in setting.choices)
    return f"{setting.kind}, in {setting.unit}" if setting.unit else setting.kind


def _facts(setting: Setting) -> str:
    facts = []
    if setting.limits:
        facts.append(f"Limits: {setting.limits}.")
    if setting.required:
        facts.append("Required.")
    elif setting.default is not None and setting.table is None:
        facts.append(f"Default: `{setting.default}`.")
    if setting.example:
        facts.append(f"Example: `{setting.example}`.")
    return " ".join(facts)
