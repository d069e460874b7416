"""Files that hold a token, or say where it is sent: who else may read or change them, and what would upload them."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.errors import ConfigError
from syncd.os_names import from_os
from syncd.paths import normal
from syncd.rules import Rules

if TYPE_CHECKING:
    from syncd.config.settings import Config, MirrorConfig

CREDENTIAL = "cloudflare_api_token"
"""The name of the credential that systemd may hand over (LoadCredential)."""


@dataclass(frozen=True, slots=True)
class Loose:
    """A file or directory that others can read or change more than is good. remedy: a command, or what to do."""

    path: Path
    message: str
    remedy: str


def refuse_writable(path: Path, name: str) -> None:
    """Raise ConfigError if everybody may write to a file that holds a secret. name: the key that is to blame.

    Who can change it chooses the account that the folder goes to. That others can read it is told by `loose`.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
        raise ConfigError(f"{name}: everybody may write to the file; take that away with chmod 600")


def loose(config: "Config", config_file: Path, *, holds_secret: bool) -> list[Loose]:
    """Return what should be closed: the token file, the config file, the state directory.

    holds_secret: the token stands in the config file itself.
    """
    found = []
    token_file = config.cloudflare.api_token_file
    if token_file and token_file.name == CREDENTIAL:
        token_file = None  # systemd's own file; who may read it is not ours to change
    for path, secret in ((token_file, True), (config_file, holds_secret)):
        mode = _mode(path)
        if path and mode & (0o077 if secret else stat.S_IWOTH):
            what = "can be changed by others" if mode & 0o022 else "can be read by others"
            found.append(Loose(path, f"{path} {what}", f"chmod {'600' if secret else 'o-w'} {path}"))
    mode = _mode(config.state_dir)
    # With the sticky bit nobody but its owner can take a file away.
    if mode & 0o022 and not mode & stat.S_ISVTX:
        said = f"{config.state_dir} can be changed by others"
        found.append(Loose(config.state_dir, said, f"chmod 700 {config.state_dir}"))
    return found


def uploads(mirror: "MirrorConfig", secret: Path) -> bool:
    """True if a mirror would take a file that holds a secret."""
    root, place = (Path(os.path.realpath(path)) for path in (mirror.path, secret))
    if not place.is_file() or not place.is_relative_to(root):
        return False
    rules = Rules(tuple(mirror.include), tuple(mirror.exclude))
    return rules.excluded_deep(normal(from_os(place.relative_to(root).as_posix()))) is None


def _mode(path: Path | None) -> int:
    """The permission bits; 0 where there is nothing to be said."""
    try:
        return stat.S_IMODE(path.stat().st_mode) if path else 0
    except OSError:
        return 0
