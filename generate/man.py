"""syncd(1): all commands, exit codes, files and variables."""

from collections.abc import Iterator

from generate import commands
from generate.blocks import Block, Code, Heading, Item, Text, man_page
from generate.exit_codes import EXIT_MEANINGS
from syncd import __version__
from syncd.cli.context import program

SUMMARY = "keep a folder in step with AI Search, Workers KV or Vectorize"

FILES = {
    "/etc/syncd/config.toml": "The config of the system, used if no other config is found. See syncd.toml(5).",
    "./syncd.toml": "The config in the current directory. It comes before the config of the user and of the system.",
    "~/.config/syncd/config.toml": "The config of the user. `$XDG_CONFIG_HOME` replaces `~/.config`.",
    "~/.local/state/syncd": (
        "The state directory, with the state file, its lock and the control socket of the daemon. The key `state_dir`,"
        " `$STATE_DIRECTORY` or `$XDG_STATE_HOME/syncd` replaces it."
    ),
    ".syncdignore": "Patterns of files in a mirrored folder that are left out, in the syntax of gitignore(5).",
}
ENVIRONMENT = {
    "SYNCD_CONFIG": "The path of the config file. The option -c wins over it.",
    "SYNCD_SECTION__KEY": (
        "The value of a key of the config, such as `SYNCD_CLOUDFLARE__TPSLIMIT=0` or"
        " `SYNCD_MIRRORS__DOCS__PATH=/srv/docs`. It wins over the config file. A list or table is written as JSON."
    ),
    "CLOUDFLARE_API_TOKEN": "The API token.",
    "CLOUDFLARE_ACCOUNT_ID": "The account.",
    "CLOUDFLARE_EMAIL, CLOUDFLARE_API_KEY": "The e-mail address and global API key of a user, in place of a token.",
    "CLOUDFLARE_API_BASE_URL": "The URL of the API.",
    "CREDENTIALS_DIRECTORY": (
        "The credentials of a systemd service. The token is read from the file `cloudflare_api_token` in it."
    ),
    "STATE_DIRECTORY": "The state directory of a systemd service.",
    "XDG_CONFIG_HOME, XDG_STATE_HOME": "The base directories of the config and of the state.",
    "HTTPS_PROXY, ALL_PROXY, NO_PROXY": "The proxy for requests to the API, and the hosts that need none.",
    "SSL_CERT_FILE": "The file with the certificates that syncd trusts.",
    "NO_COLOR": "If it is set, the output has no colours.",
    "SQLITE_TMPDIR, TMPDIR": "The directory of temporary files.",
}
SIGNALS = {
    "SIGTERM, SIGINT": "End the command within five seconds. The next pass continues the work.",
    "SIGHUP": "Let `syncd run` read its config again and make a full pass.",
}


def page() -> str:
    """Return syncd(1)."""
    return man_page("syncd", 1, SUMMARY, __version__, list(_blocks()))


def _blocks() -> Iterator[Block]:
    yield Heading("Synopsis")
    yield Text("`syncd` [OPTIONS] COMMAND [ARGS]...")
    yield Heading("Description")
    yield Text(
        f"{program.help} One folder and one target are a mirror. The config, syncd.toml(5), names the mirrors."
        " `syncd run` is the daemon: it watches the folders and uploads what changes. `syncd reconcile` makes one pass"
        " and ends."
    )
    yield Text("stdout carries the answer of a command, stderr the log.")
    yield Heading("Options")
    yield Text("These options stand before or after the command.")
    yield from commands.global_options()
    yield Heading("Commands")
    for context in commands.every_command():
        yield from commands.blocks(context, 2)
    yield Heading("Exit status")
    yield Text("With several mirrors the most serious code wins, in the order 3, 4, 5, 1, 0.")
    yield from (Item(str(code), text) for code, text in EXIT_MEANINGS.items())
    for title, items in (("Environment", ENVIRONMENT), ("Files", FILES), ("Signals", SIGNALS)):
        yield Heading(title)
        yield from (Item(term, text) for term, text in items.items())
    yield Heading("Examples")
    yield Text("Try it without an account:")
    yield Code("syncd demo")
    yield Text("Mirror a folder into an instance of AI Search:")
    yield Code(
        "export CLOUDFLARE_ACCOUNT_ID=... CLOUDFLARE_API_TOKEN=...\n"
        "syncd init ~/docs --target ai-search:default/docs\n"
        "syncd check\nsyncd reconcile --dry-run\nsyncd run"
    )
    yield Heading("See also")
    yield Text("syncd.toml(5), gitignore(5), systemd.unit(5)")
