"""A file in parts, as its user has it: one file in every command, and followed through its life."""

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from syncd_process import Room, files_of, lose_state, open_room, until

from syncd.parts import Naming

LIMIT = 2000
SMALL = b"a small one"
NAMES = Naming("", split=True)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as made:
        made.configure(mirror='oversize = "split"', target=f"create = true\nmax_file_size = {LIMIT}")
        made.write("small.md", SMALL)
        yield made


def book(seed: int, chapters: int) -> bytes:
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefgü", k=chance.randint(2, 8))) for _ in range(300)]

    def chapter(number: int) -> str:
        lines = "\n".join(" ".join(chance.choices(words, k=10)) for _ in range(chance.randint(3, 12)))
        return f"## Chapter {number} {chance.choice(words)}\n\n{lines}\n\n"

    return "".join(chapter(number) for number in range(chapters)).encode()


def life(text: bytes) -> Iterator[bytes | None]:
    """Ten edits of a file; the ninth is its rename, the tenth its delete."""
    middle = text.index(b"## Chapter 15")
    yield text
    yield text + book(2, 10)
    yield text[:middle]
    yield b"## New\n\nat the front\n\n" + text
    yield text[:middle] + text[text.index(b"## Chapter 20") :]
    yield text[:500]
    yield text + b"tail\n"
    yield text.replace(b"Chapter", b"Kapitel")


def joined(room: Room) -> dict[str, bytes]:
    files: dict[str, dict[int, bytes]] = {}
    for key, data in room.remote.files().items():
        file, number = NAMES.of(key)
        files.setdefault(file, {})[number] = data
    assert all(sorted(found) in ([0], [*range(1, len(found) + 1)]) for found in files.values()), files.keys()
    return {file: b"".join(found[number] for number in sorted(found)) for file, found in files.items()}


def reconciled(room: Room) -> dict[str, Any]:
    seen = room.syncd("reconcile", "--json")
    assert seen.code == 0, seen.out + seen.err
    told: dict[str, Any] = seen.json()["mirrors"]["docs"]
    return told


def test_reconcile_follows_ten_edits(room: Room) -> None:
    for text in life(book(1, 30)):
        room.write("deep/book.md", text or b"")
        reconciled(room)
        assert joined(room) == files_of(room.docs)
    (room.docs / "deep/book.md").rename(room.docs / "deep/volume.md")
    reconciled(room)
    assert joined(room) == files_of(room.docs)
    room.nothing_left_to_do()
    (room.docs / "deep/volume.md").unlink()
    reconciled(room)
    assert joined(room) == files_of(room.docs)


def test_run_follows_ten_edits(room: Room) -> None:
    def in_step() -> bool:
        try:
            return joined(room) == files_of(room.docs)
        except (AssertionError, httpx.HTTPStatusError):
            # Just now it is in between.
            return False

    with room.daemon() as daemon:
        for text in life(book(1, 30)):
            room.write("book.md", text or b"")
            until(in_step, daemon.text, every_s=0.2)
        (room.docs / "book.md").rename(room.docs / "volume.md")
        until(in_step, daemon.text, every_s=0.2)
        (room.docs / "volume.md").unlink()
        until(in_step, daemon.text, every_s=0.2)
        assert room.status()["items"] == {"synced": 1, "pending": 0, "failed": 0, "rejected": 0}


def test_a_lost_state_sends_nothing_and_a_killed_pass_converges(room: Room) -> None:
    room.write("book.md", book(3, 60))
    running = room.start("reconcile")
    until(lambda: len(room.remote.items()) > 3)
    running.kill()
    reconciled(room)
    assert joined(room) == files_of(room.docs)
    lose_state(room.state)
    room.remote.forget_requests()
    assert {action["action"] for action in reconciled(room)["actions"]} == {"adopt"}
    assert room.remote.counted()["changing"] == 0
    room.nothing_left_to_do()


def test_an_edit_sends_the_parts_near_it(room: Room) -> None:
    text = book(4, 60)
    room.write("book.md", text)
    assert len(reconciled(room)["actions"]) > 10
    place = text.index(b"\n\n", len(text) // 2) + 5
    room.write("book.md", text[:place] + b"xyz" + text[place + 3 :])
    assert len(reconciled(room)["actions"]) <= 3
    assert joined(room) == files_of(room.docs)


def test_every_command_shows_one_file(room: Room) -> None:
    text = book(5, 20)
    room.write("book.md", text)
    reconciled(room)
    number = len(room.remote.items()) - 1
    assert room.status()["items"]["synced"] == 2
    for options in ((), ("--remote",)):
        rows = room.syncd("ls", "--json", *options).json()["items"]
        assert [row["key"] for row in rows] == ["book.md", "small.md"]
        assert (rows[0]["size"], len(rows[0]["parts"])) == (len(text), number)
        assert f"{number} parts" in room.syncd("ls", *options).out
    for path in ("book.md", "book~002.md"):
        told = room.syncd("explain", str(room.docs / path)).out
        assert f"taken, in {number} parts" in told
        assert told.count("remote id") == number
    word = text.split()[8].decode()
    hits = room.syncd("search", word, "--json").json()["hits"]
    assert {hit["key"] for hit in hits} == {"book.md"}
    for deep in ((), ("--deep",)):
        seen = room.syncd("verify", "--json", *deep).json()["mirrors"]["docs"]
        assert (seen["differences"], seen["checked"]) == ([], 2)


def test_verify_names_the_file_and_pull_makes_it_whole_again(room: Room) -> None:
    text = book(6, 20)
    room.write("book.md", text)
    reconciled(room)
    out, number = room.path / "out", count()
    assert room.syncd("pull", str(out)).code == 0
    assert files_of(out) == files_of(room.docs)
    room.write("book.md", text[:3000])
    for deep in ((), ("--deep",)):
        found = room.syncd("verify", "--json", *deep).json()["mirrors"]["docs"]["differences"]
        assert [(each["key"], each["difference"]) for each in found] == [("book.md", "changed")]
    last = max(room.remote.items(), key=lambda item: str(item["key"]).replace("small", ""))
    for lost in ("book~002.md", last["key"]):
        room.remote.delete(next(item["id"] for item in room.remote.items() if item["key"] == lost))
        into = room.path / f"out{next(number)}"
        seen = room.syncd("pull", str(into), "--json")
        assert (seen.code, [problem["key"] for problem in seen.json()["problems"]]) == (1, ["book.md"])
        assert files_of(into) == {"small.md": SMALL}


def test_what_fails_in_a_part_is_told_of_the_file_and_retried_by_its_key(tmp_path: Path) -> None:
    with open_room(tmp_path, fail_index="book~00[23]") as room:
        room.configure(mirror='oversize = "split"', target=f"create = true\nmax_file_size = {LIMIT}")
        room.write("book.md", book(7, 20))
        seen = room.syncd("reconcile", "--wait", "20", "--json")
        assert seen.code == 1
        problems = seen.json()["mirrors"]["docs"]["problems"]
        assert [(each["key"], each["kind"]) for each in problems] == [("book.md", "index_error")]
        assert problems[0]["message"].startswith("parts 2 and 3: ")
        row = room.syncd("ls", "--json").json()["items"][0]
        assert (row["key"], row["index"]) == ("book.md", "error")
        assert room.syncd("retry", "book.md").out.startswith("2 items")


def test_what_cannot_be_split_is_told_why(room: Room) -> None:
    room.write("image.pdf", b"%PDF" + b"\xff" * 3000)
    room.write("x~001.md", "mine")
    seen = room.syncd("reconcile", "--json")
    problems = {each["key"]: each for each in seen.json()["mirrors"]["docs"]["problems"]}
    assert (seen.code, problems["image.pdf"]["kind"], problems["x~001.md"]["kind"]) == (1, "too_large", "invalid_key")
    assert "only Markdown, HTML and text" in problems["image.pdf"]["message"]
    assert "rename it" in problems["x~001.md"]["message"]
