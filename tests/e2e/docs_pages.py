"""The code blocks of the documentation: what a page contains, and the script that runs it.

CONTRIBUTING.md, "Documentation", describes the comments that control a block.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^( *)(`{3,})(\w*)")
COMMENT = re.compile(r"^ *<!-- test: (.*?)(?: -->)?$")
KINDS = ("skip", "exit", "background", "write", "append", "merge", "run", "stop", "plain")
RUN = "sh"
SEEN = "console"
LANGUAGES = {RUN, SEEN, "text", "toml", "json", "jsonc", "yaml", "ini", "js", "ts", "python", "mermaid", "dockerfile"}
BLOCK = "\x1e@block "
"""Begins the line that the script prints before each block."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, or a comment that does something."""

    line: int
    language: str
    text: str
    kind: str = ""
    argument: str = ""
    """The comment before the block: its kind, such as "exit", and the argument of that."""


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in order. Raises ValueError for one that nothing explains."""
    lines = iter(enumerate(page.splitlines(), 1))
    kind = argument = ""
    for number, line in lines:
        if comment := COMMENT.match(line):
            kind, _, argument = comment[1].partition(" ")
            kind = kind.rstrip(":")
            if kind not in KINDS:
                raise ValueError(f"line {number}: {kind!r} is none of {', '.join(KINDS)}")
            if kind == "skip" and not argument:
                raise ValueError(f"line {number}: the reason is missing")
            if kind in {"run", "stop", "plain"}:
                text = "" if line.rstrip().endswith("-->") else _until(lines, "-->", "")
                yield Block(number, "", text or argument, kind)
                kind = argument = ""
        elif fence := FENCE.match(line):
            if fence[3] not in LANGUAGES:
                raise ValueError(f"line {number}: {fence[3] or 'a block without a language'} is unknown to the tests")
            yield Block(number, fence[3], _until(lines, fence[2], fence[1]), kind, argument)
            kind = argument = ""
        elif line.strip() and kind:
            raise ValueError(f"line {number}: the comment above belongs to no block")


def _until(lines: Iterator[tuple[int, str]], end: str, indent: str) -> str:
    """Return the text up to the line that ends a block, without the indent."""
    text = []
    for _, line in lines:
        if line.strip() == end:
            break
        text.append(line.removeprefix(indent) + "\n")
    return "".join(text)


def loose_commands(page: str) -> list[str]:
    """Return the commands in blocks that only an indent marks: no test runs them."""
    return re.findall(r"^(?: {4}|\t)syncd .*$", re.sub(r"(?ms)^( *)(`{3,}).*?^\1\2$", "", page), re.MULTILINE)


def script(page: Sequence[Block], merge: Sequence[str]) -> str:
    """Return the script that runs the blocks of a page. merge: the command that merges TOML into a file."""
    parts = ["set -eu\n"]
    for number, block in enumerate(page):
        parts.append(f"printf '{BLOCK}%s\\n' {number}\n")
        match block.kind:
            case "skip" | "plain":
                continue
            case "run":
                parts.append(f"{{ {block.text}\n}} > /dev/null\n")
            case "stop":
                # The shell has its background processes ignore SIGINT.
                parts.append('kill -TERM "$started"; wait "$started"\n')
            case "write" | "append":
                into = ">" if block.kind == "write" else ">>"
                parts.append(f"cat {into} {block.argument} <<'@end'\n{block.text}@end\n")
            case "merge":
                parts.append(f"{shlex.join(merge)} {block.argument} <<'@end'\n{block.text}@end\n")
            case "background":
                parts.append(_in_background(block, number))
            case "exit":
                code = int(block.argument)
                parts.append(f'set +e\n{block.text}code=$?; set -e; [ "$code" = {code} ] || exit 99\n')
            case _ if block.language == RUN:
                parts.append(block.text)
    return "".join(parts)


def _in_background(block: Block, number: int) -> str:
    """Return the lines that start a command and wait until it has printed a text."""
    command, log = block.text.rstrip(), '"$HOME"/*.log'
    if not command.endswith("&"):  # the page has the command run in a terminal of its own
        log = f'"$TMPDIR/background.{number}"'
        command = f"{command} > {log} 2>&1 &"
    return (
        f'{command}\nstarted=$!; all_started="${{all_started:-}} $started"\n'
        "trap 'kill -KILL $all_started 2> /dev/null || true' EXIT\n"
        f"until grep -qsF {shlex.quote(block.argument)} {log}; do\n"
        f'  kill -0 "$started" 2> /dev/null || {{ cat {log}; exit 98; }}\n  sleep 0.05\ndone\ncat {log}\n'
    )


def outputs(stdout: str) -> dict[int, str]:
    """Return the output of each block, by its number."""
    found = {}
    for part in stdout.split(BLOCK)[1:]:
        number, _, text = part.partition("\n")
        found[int(number)] = text
    return found


def unseen(shown: str, output: str) -> str | None:
    """Return the first line of a page's example that a command did not print, in this order.

    A line `…` stands for any lines, and … in a line for any text. Numbers, hashes and spaces may differ.
    """
    actual = iter([_plain(line) for line in output.splitlines() if line.strip()])
    anything = False
    for line in shown.splitlines():
        if not line.strip():
            continue
        if line.strip() == "…":
            anything = True
            continue
        pattern = re.compile(".*".join(map(re.escape, _plain(line).split("…"))))
        if anything:
            if not any(pattern.fullmatch(each) for each in actual):
                return line
        elif (each := next(actual, None)) is None or not pattern.fullmatch(each):
            return line
        anything = False
    return None if anything else next(actual, None)


def _plain(line: str) -> str:
    line = re.sub(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b", "#", line)
    line = re.sub(r"\d[\d,.]*", "0", line)
    return re.sub(r"\s+", " ", line.replace("0 MiB", "0 B").replace("0 KiB", "0 B")).strip()


def replaced(text: str, names: Mapping[str, str]) -> str:
    """Return a text with other names, such as a free port in place of the usual one."""
    for old, new in names.items():
        text = text.replace(old, new)
    return text


def pages(root: Path) -> list[Path]:
    """Return the pages for users. The pages on the development of syncd describe commands of make."""
    docs = root / "docs"
    named = [docs / name for name in ("index.md", "tutorial.md", "troubleshooting.md", "glossary.md")]
    found = [root / "README.md", *(page for page in named if page.exists())]
    for folder in ("how-to", "reference", "explanation"):
        found += sorted((docs / folder).glob("*.md"))
    return found
