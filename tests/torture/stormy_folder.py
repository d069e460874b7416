"""A folder with random changes as people, editors and scripts make them, by seed."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Literal

from syncd.core.keys import normal

Kind = Literal["ai-search", "kv", "vectorize"]
ROOMS = ("", "guide", "guide/deep/er", "\u00fcber uns", "\u65e5\u672c\u8a9e", "a b & c", "x.d")
WORDS = ("page", "na\u00efve", "e\u0301te\u0301", "\u0395\u03bb\u03bb\u03b7", "\U0001f4c4", "50% #1?", "it's", "q+a=b")
"""The third name is decomposed, as macOS writes it. Its key is the composed form."""
CONTESTED = tuple(f"contested/{number}.md" for number in range(6))
"""Files whose keys a stranger holds."""
NO_TEXT = "binary.md"
"""The only file whose content cannot be embedded although its name suggests text."""
MOST_CHARACTERS = 128
DEEPEST = 4


class StormyFolder:
    """The mirrored folder. kind: the kind of target, which decides which files it takes."""

    def __init__(self, root: Path, chance: Random, kind: Kind) -> None:
        self.root = root
        self._chance = chance
        self._kind = kind
        self._made = 0
        self.written = 0
        root.mkdir()

    def plant(self, files: int) -> None:
        """Fill the empty folder, also with special files."""
        for path in ("keep.md", *CONTESTED):
            self._write(self.root / path)
        for number in range(files):
            self._write(self.root / ROOMS[number % len(ROOMS)] / self._name())
        self._odd()

    def change(self, times: int) -> None:
        """Make a number of random changes."""
        does: list[tuple[Callable[[], None], int]] = [
            (self._edit, 6),
            (self._append, 2),
            (self._save_atomically, 4),
            (self._new, 4),
            (self._remove, 3),
            (self._rename, 3),
            (self._rename_folder, 1),
            (self._remove_folder, 1),
            (self._swap_shape, 1),
        ]
        for _ in range(times):
            act = self._chance.choices([act for act, _ in does], [weight for _, weight in does])[0]
            act()

    def flood(self, saves: int) -> None:
        """Save files many times in a row. Each save causes four or more kernel events."""
        files = self._files()
        for number in range(saves):
            self._save_atomically(files[number % len(files)])

    def wanted(self) -> dict[str, bytes]:
        """Return key -> bytes that the target should have, computed from the documentation without syncd's code."""
        found = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                file = Path(folder, name)
                key = normal(file.relative_to(self.root).as_posix())
                if self._belongs(file, key):
                    found[key] = file.read_bytes()
        return found

    def _belongs(self, file: Path, key: str) -> bool:
        if file.is_symlink() or not file.is_file() or len(key) > MOST_CHARACTERS:
            return False
        if key.endswith(("~", ".swp", ".env")) or any(0xD800 <= ord(each) < 0xE000 for each in key):
            return False
        if self._kind == "vectorize" and file.name == NO_TEXT:
            return False
        return self._kind == "kv" or (file.stat().st_size > 0 and key.endswith((".md", ".txt", ".json")))

    # -- what happens

    def _edit(self) -> None:
        self._write(self._any_file())

    def _append(self) -> None:
        with self._any_file().open("ab") as file:
            file.write(self._content())

    def _save_atomically(self, file: Path | None = None) -> None:
        file = file or self._any_file()
        beside = file.with_name(f".{self._made}.tmp")
        self._write(beside)
        beside.replace(file)

    def _new(self) -> None:
        self._write(self._any_folder() / self._name())

    def _remove(self) -> None:
        self._any_file().unlink()

    def _rename(self) -> None:
        self._any_file().rename(self._any_folder() / self._name())

    def _rename_folder(self) -> None:
        folder, into = self._any_folder(), self._any_folder()
        if folder != self.root and folder not in (into, *into.parents):
            self._made += 1
            folder.rename(into / f"moved {self._made}")

    def _remove_folder(self) -> None:
        folder = self._any_folder()
        if folder != self.root and len(list(folder.rglob("*"))) < 20:
            shutil.rmtree(folder)

    def _swap_shape(self) -> None:
        """Replace a file by a directory of its name with a file in it."""
        file = self._any_file()
        if self._depth(file) < DEEPEST:
            file.unlink()
            self._write(file / self._name())

    def _odd(self) -> None:
        """Write a file that the target does not take, or that must not be sent."""
        odd = self.root / "odd"
        odd.mkdir()
        for name in (".env", "vim.swp", "draft.md~", "program.exe", f"{'long' * 40}.md", "empty.md", "empty.bin"):
            (odd / name).write_bytes(b"" if name.startswith("empty") else b"odd")
        (odd / NO_TEXT).write_bytes(b"odd\0")
        Path(os.fsdecode(os.fsencode(odd) + b"/not \xff utf-8.md")).write_bytes(b"odd")
        (odd / "link.md").symlink_to(self.root / "keep.md")
        (odd / "loop").symlink_to(odd)
        os.mkfifo(odd / "pipe.md")
        with socket.socket(socket.AF_UNIX) as bound:
            # The full path may be too long for a socket.
            here = os.open(odd, os.O_PATH)
            bound.bind(f"/proc/self/fd/{here}/socket.md")
            os.close(here)

    # -- choosing

    def _files(self) -> list[Path]:
        return sorted(
            Path(folder, name)
            for folder, _, names in os.walk(self.root)
            for name in names
            if not folder.endswith("/odd") and name != "keep.md"
        )

    def _any_file(self) -> Path:
        files = self._files()
        if len(files) < 20:
            self._write(self.root / self._name())
            files = self._files()
        return self._chance.choice(files)

    def _any_folder(self) -> Path:
        """Return a directory to change or move, except directories with a special meaning."""
        folders = sorted(
            Path(folder)
            for folder, _, _ in os.walk(self.root)
            if self._depth(Path(folder)) < DEEPEST and not folder.endswith(("/odd", "/contested"))
        )
        return self._chance.choice(folders)

    def _depth(self, path: Path) -> int:
        return len(path.relative_to(self.root).parts)

    def _name(self) -> str:
        self._made += 1
        ending = self._chance.choice((".md", ".md", ".txt", ".json", ".bin"))
        return f"{self._chance.choice(WORDS)} {self._made}{ending}"

    def _write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self._content())
        self.written += 1

    def _content(self) -> bytes:
        if self._kind == "vectorize":
            return self._text()
        raw = self._chance.randbytes(self._chance.randint(1, 1500))
        return raw if self._chance.random() < 0.3 else raw.hex().encode()

    def _text(self) -> bytes:
        """Return a few sections, some with equal text."""
        said = (f"## {self._chance.choice(WORDS)}\n\n{self._said()}\n\n" for _ in range(self._chance.randint(1, 6)))
        return "".join(said).encode()

    def _said(self) -> str:
        same = self._chance.random() < 0.2
        return "The same everywhere." if same else self._chance.randbytes(self._chance.randint(1, 300)).hex()
