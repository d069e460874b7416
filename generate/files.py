"""All generated files: their names and texts."""

from generate import commands, completions, config_page, example, json_schema, log_events, man
from generate.blocks import Block, Code, Heading, Table, Text, markdown
from generate.exit_codes import EXIT_MEANINGS


def files() -> dict[str, str]:
    """Return {path below the root of the project: text}."""
    return {
        "docs/reference/commands.md": _commands(),
        "docs/reference/exit-codes.md": _exit_codes(),
        "docs/reference/config.md": config_page.page(),
        "docs/reference/log-events.md": log_events.page(),
        "docs/man/syncd.1": man.page(),
        "docs/man/syncd.toml.5": config_page.manual(),
        "config.example.toml": example.example(),
        "syncd/config/syncd.schema.json": json_schema.json_schema(),
        **completions.completions(),
    }


def _commands() -> str:
    blocks: list[Block] = [
        Text("`python -m syncd` is the same program. stdout carries the answer of a command, stderr the log."),
        Heading("Global options"),
        Text("They stand before or after the command."),
        *commands.global_options(),
    ]
    for context in commands.every_command():
        blocks += commands.blocks(context, 1)
    blocks += [
        Heading("Completion in the shell"),
        Text(
            "The Tab key completes commands, options and paths, the names of mirrors, the titles of namespaces in the"
            " config, and the ids of plans that wait for `syncd approve`. The Debian package installs the files for"
            " bash, zsh and fish. After an installation with pip, pipx or uv, one line enables it:"
        ),
        Code('eval "$(_SYNCD_COMPLETE=bash_source syncd)"   # in ~/.bashrc', "text"),
        Code('eval "$(_SYNCD_COMPLETE=zsh_source syncd)"    # in ~/.zshrc, after compinit', "text"),
        Code("_SYNCD_COMPLETE=fish_source syncd | source    # in ~/.config/fish/config.fish", "text"),
    ]
    return markdown("Commands", blocks, "the help of the program")


def _exit_codes() -> str:
    blocks: list[Block] = [
        Table(("code", "meaning"), [(str(code), text) for code, text in EXIT_MEANINGS.items()]),
        Text(
            "With several mirrors the most serious code wins, in the order 3, 4, 5, 1, 0. Nothing that the network, the"
            " disk, the clock, the environment or a file does leads to exit code 70. If the reader of stdout goes away,"
            " as in `syncd ls | head`, the exit code is 141."
        ),
    ]
    return markdown("Exit codes", blocks, "`syncd/core/errors.py`")
