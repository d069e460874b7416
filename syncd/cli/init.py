"""init: writes a commented config for one folder and one target."""

import os
import re
from pathlib import Path

import click

from syncd.cli.context import GlobalOptions, os_path
from syncd.cli.output import print_line
from syncd.core.errors import EXIT_OK, ConfigError
from syncd.core.keys import from_os, shown_path

_EXAMPLE_ACCOUNT = "0123456789abcdef0123456789abcdef"
"""The account in the written config if the environment names none."""


@click.command
@click.argument("path", default=".", type=os_path, help="The folder to mirror; default: the current one.")
@click.option(
    "--target",
    metavar="SPEC",
    required=True,
    help="ai-search:NAMESPACE/INSTANCE, kv:TITLE-OR-ID or vectorize:INDEX",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.pass_obj
def init(options: GlobalOptions, path: Path, *, target: str, force: bool) -> int:
    """Write a commented syncd.toml for a folder and a target."""
    from syncd.config.template import config_text

    section, permission = _target_section(target)
    root = _root(path, target)
    place = options.config or Path("syncd.toml")
    account = os.environ.get("CLOUDFLARE_ACCOUNT_ID", _EXAMPLE_ACCOUNT)
    text = config_text(name=_mirror_name(root), path=from_os(str(root)), target=section, account=account)
    _write(place, text, force=force)
    print_line(f"wrote {place}")
    if account == _EXAMPLE_ACCOUNT:
        print_line("next: set account_id in it")
    print_line(f"next: export CLOUDFLARE_API_TOKEN=… (permission: {permission}), then: syncd check")
    return EXIT_OK


def _root(path: Path, target: str) -> Path:
    """Return the folder to mirror as an absolute path. Raises ConfigError if a config cannot name it."""
    from syncd.core.keys import NOT_UTF8, name_fault

    root = path.expanduser().absolute()
    if not root.is_dir():
        raise ConfigError(
            f"{shown_path(root)} is no directory; name the folder to mirror: syncd init PATH --target {target}"
        )
    if name_fault(from_os(str(root))):
        raise ConfigError(
            f"{shown_path(root)}: its {NOT_UTF8.removesuffix('file')}folder, because a config contains text only"
        )
    return root


def _target_section(spec: str) -> tuple[str, str]:
    """Return the config lines of a target and the permission that its token needs."""
    from syncd.config.schema import PERMISSIONS
    from syncd.config.template import ai_search_target, kv_target, vectorize_target

    kind, _, name = spec.partition(":")
    namespace, slash, instance = name.rpartition("/")
    if kind == "kv" and name:
        return kv_target(name), PERMISSIONS[kind]
    if kind == "vectorize" and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return vectorize_target(name), PERMISSIONS[kind]
    if kind == "ai-search" and re.fullmatch(r"[a-z0-9_-]{1,64}", instance) and (namespace or not slash):
        return ai_search_target(namespace or "default", instance), PERMISSIONS[kind]
    raise ConfigError(
        f"--target {spec}: should be ai-search:NAMESPACE/INSTANCE, such as ai-search:default/docs (an instance is 1-64"
        " of a-z 0-9 - _), kv:TITLE-OR-ID, or vectorize:INDEX"
    )


def _mirror_name(root: Path) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", root.name.lower()).strip("-_")
    return name[:64] or "docs"


def _write(place: Path, text: str, *, force: bool) -> None:
    """Write a file that only its owner can read, because a user may add a token to it."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(place, flags, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{place} exists already; edit it, or overwrite it with --force") from None
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror}; choose another place with: syncd --config PATH init …") from None
