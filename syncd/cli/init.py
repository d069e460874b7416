"""init: writes a commented config for one folder and one target. schema: the JSON Schema of a config, for editors."""

import json
import os
import re
import shlex
from pathlib import Path
from string import Template

import click

from syncd.cli.completion import directory_path
from syncd.cli.context import GlobalOptions, command
from syncd.cli.output import print_line
from syncd.core.errors import EXIT_OK, ConfigError
from syncd.core.keys import from_os, name_fault, shown_path

SCHEMA = Path(__file__).parents[1] / "config" / "syncd.schema.json"
"""The JSON Schema, which is generated with the release."""
_EXAMPLE_ACCOUNT = "0123456789abcdef0123456789abcdef"
"""The account in the written config if the environment names none."""

_CONFIG = Template("""#:schema $schema
# syncd: keeps a folder in step, one way, with Cloudflare. All keys: config.example.toml
# state_dir = "/var/lib/syncd"        # default: $$STATE_DIRECTORY, else ~/.local/state/syncd

[cloudflare]
account_id = $account   # 32 hex digits, in the dashboard's address
${base_url}# The token: export CLOUDFLARE_API_TOKEN=…, or
# the file that holds it (permissions: Account / AI Search: Edit and Account / AI Search: Run; or
# Account / Workers KV Storage: Edit; or Account / Vectorize: Edit and Account / Workers AI: Read).
# api_token_file = "/etc/syncd/token"
# quota = "1050/300s"                 # requests in any 300 s, kept over restarts; Cloudflare allows a user 1200
# tpslimit = 100                      # besides: requests per second; Cloudflare allows an address 200; 0: no limit

[mirrors.$name]
path = $path
# include = ["**/*"]                  # gitignore-style patterns
# exclude = ["drafts/", "*.tmp"]      # in addition to the built-in list (syncd check --excludes) and .syncdignore files
# gitignore = true                    # .gitignore files in the folder apply, too
# links = "skip"                      # skip | inside: a link to a file inside the folder counts as that file
# long_names = "reject"               # or "shorten": names over 128 characters get a shorter name
# max_delete = "25%"                  # a plan that deletes more (and more than 10) is refused

[mirrors.$name.target]
$target""")

_AI_SEARCH = Template("""type = "ai-search"
namespace = "$namespace"
instance = "$instance"
create = true                         # create the instance if it does not exist

# [mirrors.$name.target.settings]     # of an instance that is created. All settings: config.example.toml
# embedding_model = "@cf/qwen/qwen3-embedding-0.6b"   # can never be changed
# index_method = { vector = true, keyword = true }    # a change of these four indexes all items again
# indexing_options = { keyword_tokenizer = "porter", use_ocr = false }
# chunk_size = 256                    # tokens
# chunk_overlap = 10                  # percent, 0 to 30
# reranking = false
# rewrite_query = false
# public_endpoint_params = { enabled = true, mcp = { description = "Our handbook" } }   # for agents, without a token
""")

_KV = Template("""type = "kv"
$key = $value
create = $create                         # create the namespace if no namespace has this title
# jurisdiction = "eu"                 # or "fedramp", "us"; can never be changed
# stale_ttl = "1d"                    # how long an entry stays after its file is gone; default: 0
""")

_VECTORIZE = Template("""type = "vectorize"
index = "$index"
create = true                         # create the index if it does not exist
model = "@cf/baai/bge-base-en-v1.5"   # a model of Workers AI; a change of the model embeds all files again
# chunk_size = 1000                   # characters of one piece of text
# chunk_overlap = 150                 # characters that a piece has in common with the one before
""")


@command()
@click.argument("path", default=".", type=directory_path, help="The folder to mirror. Default: the current one.")
@click.option(
    "--target",
    metavar="SPEC",
    required=True,
    help="The target: ai-search:NAMESPACE/INSTANCE, kv:TITLE-OR-ID or vectorize:INDEX.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.pass_obj
def init(options: GlobalOptions, path: Path, *, target: str, force: bool) -> int:
    """Write a commented syncd.toml for a folder and a target."""
    root = _root(path, target)
    section, permission = _target_section(target, _mirror_name(root))
    place = options.config or Path("syncd.toml")
    account, url, token = (os.environ.get(f"CLOUDFLARE_{name}") for name in ("ACCOUNT_ID", "API_BASE_URL", "API_TOKEN"))
    text = _CONFIG.substitute(
        schema=json.loads(SCHEMA.read_text(encoding="utf-8"))["$id"],
        name=_mirror_name(root),
        path=_quoted(from_os(str(root))),
        target=section,
        account=_quoted(account or _EXAMPLE_ACCOUNT),
        base_url=f"base_url = {_quoted(url)}\n" if url else "",
    )
    _write(place, text, force=force)
    print_line(f"wrote {place}")
    if not account:
        print_line("next: set account_id in it")
    if not token:
        print_line(f"next: export CLOUDFLARE_API_TOKEN=… (with {permission})")
    print_line(f"next: {_check_command(place)}{f' (the token needs {permission})' if token else ''}")
    return EXIT_OK


def _check_command(place: Path) -> str:
    """Return the command that checks the written config. It names the config unless commands find it by themselves."""
    from syncd.config.file import config_path

    try:
        if config_path(None).samefile(place):
            return "syncd check"
    except (ConfigError, OSError):
        # SYNCD_CONFIG names another file, which is missing.
        pass
    return f"syncd -c {shlex.quote(shown_path(place))} check"


def _root(path: Path, target: str) -> Path:
    """Return the folder to mirror as an absolute path. Raises ConfigError if a config cannot name it."""
    from syncd.config.checks import TOO_MUCH, is_too_much

    root = path.absolute()
    if not root.is_dir():
        raise ConfigError(
            f"{shown_path(root)} is no directory; name the folder to mirror: syncd init PATH --target {target}"
        )
    if is_too_much(root):
        raise ConfigError(f"{shown_path(root)} {TOO_MUCH}")
    if fault := name_fault(from_os(str(root))):
        raise ConfigError(f"{shown_path(root)}: {fault}, because a config contains text only")
    return root


def _target_section(spec: str, mirror: str) -> tuple[str, str]:
    """Return the config lines of a mirror's target and the permission that its token needs."""
    from syncd.config.schema import PERMISSIONS

    kind, _, name = spec.partition(":")
    namespace, slash, instance = name.rpartition("/")
    namespace = namespace if slash else "default"
    if kind == "kv" and re.fullmatch(r".{1,512}", name, re.DOTALL):
        # A text of 32 hex digits is an id.
        by_id = re.fullmatch(r"[0-9a-f]{32}", name) is not None
        key, create = ("namespace_id", "false") if by_id else ("namespace_title", "true ")
        return _KV.substitute(key=key, value=_quoted(name), create=create), PERMISSIONS[kind]
    if kind == "vectorize" and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return _VECTORIZE.substitute(index=name), PERMISSIONS[kind]
    if kind == "ai-search" and re.fullmatch(r"[A-Za-z0-9_-]{1,64}/[a-z0-9_-]{1,64}", f"{namespace}/{instance}"):
        lines = _AI_SEARCH.substitute(name=mirror, namespace=namespace, instance=instance)
        return lines, PERMISSIONS[kind]
    raise ConfigError(
        f"--target {spec}: should be ai-search:NAMESPACE/INSTANCE, such as ai-search:default/docs (an instance is 1-64"
        " of a-z 0-9 - _), kv:TITLE-OR-ID, or vectorize:INDEX"
    )


def _mirror_name(root: Path) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", root.name.lower()).strip("-_")
    return name[:64] or "docs"


def _write(place: Path, text: str, *, force: bool) -> None:
    """Write a file that only its owner can read, because a user may add a token to it.

    An error leaves no part of it, and with --force the former file.
    """
    from syncd.config.file import replace_file

    try:
        if force and place.is_file():
            # A link stays a link.
            replace_file(place.resolve(), text.encode(), lambda new: new.chmod(0o600))
        else:
            _create(place, text, force=force)
    except FileExistsError:
        raise ConfigError(f"{place} exists already; edit it, or overwrite it with --force") from None
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror}; choose another place with: syncd --config PATH init …") from None


def _create(place: Path, text: str, *, force: bool) -> None:
    """Write a new file, or with `force` into a device."""
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | (0 if force else os.O_EXCL), 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if not force:
                os.fchmod(descriptor, 0o600)
            file.write(text)
    except OSError:
        if place.is_file():
            place.unlink()
        raise


def _quoted(text: str) -> str:
    """Return a TOML basic string. Every JSON string is one."""
    return json.dumps(text, ensure_ascii=False)


@command()
def schema() -> int:
    """Print the JSON Schema of the config.

    Editors use it for completion and hints. Every config that `syncd init` writes names its address in the first line.
    """
    click.echo(SCHEMA.read_text(encoding="utf-8"), nl=False)
    return EXIT_OK
