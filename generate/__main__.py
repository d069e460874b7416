"""Write every generated file. `make generate` calls this after a change of a command, a setting or a list."""

from generate.files import files
from generate.project import ROOT


def main() -> None:
    """Write the files and print the names of those that have changed."""
    for name, text in files().items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")


main()
