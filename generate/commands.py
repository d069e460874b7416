"""The commands with their help and options, as click knows them."""

from collections.abc import Iterator

import click

from generate.blocks import Block, Code, Heading, Item, Text
from syncd.cli.context import program


def every_command() -> Iterator[click.Context]:
    """Yield a context for each command, in the order of the help. A group comes before its commands."""
    yield from _below(click.Context(program, info_name="syncd", **program.context_settings))


def _below(context: click.Context) -> Iterator[click.Context]:
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context, **command.context_settings)
        yield inner
        if isinstance(command, click.Group):
            yield from _below(inner)


def global_options() -> list[Item]:
    """Return the options that stand before or after every command."""
    return options(click.Context(program, info_name="syncd", **program.context_settings))


def options(context: click.Context) -> list[Item]:
    """Return the arguments and options of a command, without --help."""
    items = []
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or "--help" in parameter.opts:
            continue
        term, text = record
        items.append(Item(term, text))
    return sorted(items, key=lambda item: item.term.startswith("-"))


def usage(context: click.Context) -> str:
    """Return the usage line of a command."""
    return " ".join([context.command_path, *context.command.collect_usage_pieces(context)])


def paragraphs(context: click.Context) -> list[str]:
    """Return the help text of a command."""
    return [" ".join(part.split()) for part in (context.command.help or "").split("\n\n")]


def blocks(context: click.Context, level: int) -> Iterator[Block]:
    """Yield the description of a command."""
    yield Heading(context.command_path if level == 1 else context.command_path.removeprefix("syncd "), level)
    yield Code(usage(context))
    yield from map(Text, paragraphs(context))
    yield from options(context)
