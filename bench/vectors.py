"""Vectorize: the number of embedded texts and of requests."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

from bench.process import Run
from bench.table import Figure
from bench.workspace import AGED, Sizes, Standin, Workspace, workspace
from syncd.cloudflare.vectorize import LIST_LIMIT
from syncd.cloudflare.workers_ai import TEXTS_LIMIT
from syncd.core.problems import Limits
from syncd.targets.vectorize.writing import UPSERT_VECTORS

SECTIONS = 200
EMBEDDED = 2
"""Texts that an edit within one section may embed: its own chunk, and the next if a border moves."""
_WORDS = """
anchor boat current dock eddy ferry gale harbour island jetty keel lagoon mast north ocean pilot quay rudder sail tide
under vessel wharf yacht buoy chart deck engine fog gauge hatch inlet knot ladder mooring needle oar port rope signal
tow upstream visibility watch yard and of the a with from until when which before after
"""
_VOCABULARY = _WORDS.split()


def counted(sizes: Sizes) -> list[Figure]:
    """Count the requests of a first pass, a no-op pass, an edit, a rename and a lost state file in the stand-in."""
    with Standin() as standin, workspace(standin, 0, kind="vectorize") as here:
        _plant(here.tree, sizes.guides)
        first = _pass(standin, here)
        # The pass after a change asks whether the index has processed it. The next pass is at rest.
        here.reconcile()
        vectors = standin.vectors(here.instance)
        idle = _pass(standin, here)
        _write(here.tree / "long.md", _long(changed=SECTIONS // 2))
        edit = _pass(standin, here)
        (here.tree / "long.md").rename(here.tree / "renamed.md")
        rename = _pass(standin, here)
        here.reconcile()
        here.forget()
        lost = _pass(standin, here)
    return [
        *_of_first(first, vectors, sizes.guides + 1),
        *_of_idle(idle, vectors),
        Figure(f"vectors: texts embedded, 1 of {SECTIONS} sections edited", edit.embedded, reach=EMBEDDED, exact=True),
        Figure("vectors: texts embedded, file renamed", rename.embedded, reach=0, exact=True),
        Figure("vectors: texts embedded, state file lost", lost.embedded, reach=0, exact=True),
        Figure("vectors: changing requests, state file lost", lost.changing, reach=0, exact=True),
        Figure("vectors: pass after a lost state file", lost.run.elapsed_s, "s"),
    ]


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass: the command, and the counts of the stand-in. asked, upserts: requests to embed and to write."""

    run: Run
    total: int
    changing: int
    embedded: int
    asked: int
    upserts: int


def _pass(standin: Standin, here: Workspace) -> Pass:
    standin.reset()
    run = here.reconcile(log=True)
    seen = standin.requests()
    asked, upserts = (
        sum(count for route, count in seen["routes"].items() if part in route) for part in ("/ai/run/", "/upsert")
    )
    return Pass(run, seen["total"], seen["changing"], seen["embedded_texts"], asked, upserts)


def _of_first(first: Pass, vectors: int, files: int) -> list[Figure]:
    slices = _times(vectors, UPSERT_VECTORS) + _times(files, Limits().turn)
    groups = slices * UPSERT_VECTORS / TEXTS_LIMIT
    return [
        Figure(f"vectors: texts embedded, first pass of {files:,} files", first.embedded, reach=vectors, exact=True),
        Figure("vectors: … requests to embed them", first.asked, reach=groups, exact=True),
        Figure("vectors: … upserts", first.upserts, reach=slices, exact=True),
        Figure("vectors: … requests", first.total),
        Figure("vectors: first pass", first.run.elapsed_s, "s"),
        Figure("vectors: … processor time", first.run.cpu_s, "s"),
        Figure("vectors: … peak memory", first.run.peak_mb, "MB"),
    ]


def _of_idle(idle: Pass, vectors: int) -> list[Figure]:
    pages, read = _times(vectors, LIST_LIMIT), idle.run.last("pass.done")["files_read"]
    return [
        Figure(f"vectors: requests, second pass ({vectors:,} vectors)", idle.total, reach=pages, exact=True),
        Figure("vectors: texts embedded, second pass", idle.embedded, reach=0, exact=True),
        Figure("vectors: files read, second pass", read, reach=0, exact=True),
        Figure("vectors: second pass", idle.run.elapsed_s, "s"),
        Figure("vectors: … peak memory", idle.run.peak_mb, "MB"),
    ]


def _times(number: int, size: int) -> int:
    return -(-number // size)


def _plant(root: Path, number: int) -> None:
    """Write a number of different guides of 6 to 8 kB, and a long one."""
    for at in range(number):
        _write(root / f"part-{at % 20:02d}" / f"guide-{at:05d}.md", _guide(at))
    _write(root / "long.md", _long())


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    os.utime(file, (AGED, AGED + len(text)))


def _guide(at: int) -> str:
    """Return a typical guide: front matter, sections, lists, code."""
    words = random.Random(at)
    parts = [
        f"---\ntitle: Guide {at}\ntags: [{words.choice(_VOCABULARY)}]\n---\n\n# Guide {at}\n\n{_prose(words, 90)}\n"
    ]
    for number in range(1, 7):
        items = "".join(f"- {_prose(words, 9)}\n" for _ in range(5))
        code = (
            f"```sh\n{words.choice(_VOCABULARY)} --{words.choice(_VOCABULARY)} {words.choice(_VOCABULARY)}.conf\n```\n"
        )
        parts.append(f"## {number}. About the {words.choice(_VOCABULARY)}\n\n{_prose(words, 110)}\n\n{items}\n{code}")
    return "\n".join(parts)


def _long(changed: int | None = None) -> str:
    """Return a file with many sections. changed: the number of a changed section."""
    sections = (
        f"## Section {number}\n\n{_prose(random.Random(f'{number} {number == changed}'), 80)}\n"
        for number in range(SECTIONS)
    )
    return "# All of it\n\n" + "\n".join(sections)


def _prose(words: random.Random, count: int) -> str:
    chosen = words.choices(_VOCABULARY, k=count)
    stops = (" ".join(chosen[start : start + 12]).capitalize() for start in range(0, count, 12))
    return ". ".join(stops) + "."
