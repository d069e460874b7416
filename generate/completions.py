"""The completion files of the shells, for packages. They ask the program for the names."""

from click.shell_completion import ShellComplete, get_completion_class

from syncd.cli.context import program

PLACES = {"bash": "completions/syncd.bash", "zsh": "completions/_syncd", "fish": "completions/syncd.fish"}


def completions() -> dict[str, str]:
    """Return {path: text} of the file of each shell."""
    return {path: _source(shell) for shell, path in PLACES.items()}


def _source(shell: str) -> str:
    kind = get_completion_class(shell)
    assert kind is not None
    # Not the method of the class, which asks the bash of this machine for its version.
    return ShellComplete.source(kind(program, {}, "syncd", "_SYNCD_COMPLETE")).lstrip("\n").rstrip("\n") + "\n"
