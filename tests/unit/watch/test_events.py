import asyncio
import os
import statistics
import time

from syncd.watch.hints import EVERYTHING, Hint, Inbox
from tests.unit.watch.harness import Room, inotify_watches


async def test_an_edit_hints_its_path_within_milliseconds(room: Room) -> None:
    await room.watch()
    assert room.watcher.status("m").mode == "inotify"
    took: list[float] = []
    for number in range(20):
        await room.quiet(0.03)
        started = time.perf_counter()
        (room.root / "a.md").write_text(str(number))
        batch = await asyncio.wait_for(room.inbox.get_batch(), 5)
        took.append(time.perf_counter() - started)
        assert batch == {"m": [Hint("a.md", subtree=False)]}
    assert statistics.median(took) < 0.05


async def test_reading_and_listing_give_no_hints(room: Room) -> None:
    (room.root / "sub").mkdir()
    (room.root / "sub/a.md").write_text("text")
    await room.watch()
    await room.settled()
    for _ in range(50):
        (room.root / "sub/a.md").read_bytes()
        list((room.root / "sub").iterdir())
        (room.root / "sub/a.md").stat()
    await room.quiet()
    assert room.seen == {}


async def test_create_change_chmod_and_delete_all_hint_the_file(room: Room) -> None:
    await room.watch()
    path = room.root / "a.md"
    for act in (path.touch, lambda: path.write_text("x"), lambda: path.chmod(0o600), path.unlink):
        act()
        await room.hinted("a.md")
        await room.settled()


async def test_an_atomic_save_hints_the_place_it_was_saved_to(room: Room) -> None:
    (room.root / "a.md").write_text("old")
    await room.watch()
    (room.root / ".a.tmp").write_text("new")
    await room.settled()
    (room.root / ".a.tmp").replace(room.root / "a.md")
    await room.hinted("a.md", ".a.tmp")


async def test_an_atomic_save_from_outside_hints_the_place_it_was_saved_to(room: Room) -> None:
    await room.watch()
    (room.outside / "new").write_text("new")
    (room.outside / "new").replace(room.root / "a.md")
    await room.hinted("a.md")


async def test_directories_made_quickly_are_covered_with_all_their_files(room: Room) -> None:
    await room.watch()
    paths = [f"a{top}/b/c/{name}.md" for top in range(20) for name in range(5)]
    for path in paths:
        (room.root / path).parent.mkdir(parents=True, exist_ok=True)
        (room.root / path).write_text("x")
    await room.hinted(*paths)
    await room.settled()
    (room.root / "a19/b/c/later.md").write_text("x")
    await room.hinted("a19/b/c/later.md")


async def test_a_directory_moved_in_is_hinted_and_watched(room: Room) -> None:
    (room.outside / "dir/sub").mkdir(parents=True)
    (room.outside / "dir/sub/a.md").write_text("x")
    await room.watch()
    (room.outside / "dir").rename(room.root / "dir")
    await room.hinted("dir/sub/a.md")
    await room.settled()
    (room.root / "dir/sub/a.md").write_text("y")
    await room.hinted("dir/sub/a.md")


async def test_a_directory_moved_within_reports_its_later_edits_under_the_new_path(room: Room) -> None:
    (room.root / "old/sub").mkdir(parents=True)
    (room.root / "target").mkdir()
    await room.watch()
    (room.root / "old").rename(room.root / "target/new")
    await room.hinted("old", "target/new")
    await room.settled()
    (room.root / "target/new/sub/a.md").write_text("x")
    await room.hinted("target/new/sub/a.md")
    assert not covered_anywhere(room, "old")


async def test_a_directory_moved_out_is_hinted_and_no_longer_watched(room: Room) -> None:
    (room.root / "dir/sub").mkdir(parents=True)
    await room.watch()
    started = time.monotonic()
    (room.root / "dir").rename(room.outside / "dir")
    await room.hinted("dir")
    assert time.monotonic() - started < 0.3
    await room.settled()
    (room.outside / "dir/sub/a.md").write_text("x")
    await room.settled()
    (room.outside / "dir/sub/b.md").write_text("x")
    await room.quiet()
    assert room.seen == {}


async def test_a_directory_moved_out_and_replaced_at_once_is_watched_at_its_old_path(room: Room) -> None:
    (room.root / "dir/sub").mkdir(parents=True)
    await room.watch()
    (room.root / "dir").rename(room.outside / "dir")
    (room.root / "dir/sub").mkdir(parents=True)
    await room.hinted("dir")
    await room.settled()
    (room.root / "dir/sub/a.md").write_text("x")
    await room.hinted("dir/sub/a.md")


async def test_a_directory_moved_out_and_back_under_another_name_is_watched_there(room: Room) -> None:
    (room.root / "dir/sub").mkdir(parents=True)
    await room.watch()
    for number in range(5):
        source = room.root / ("dir" if number == 0 else f"dir{number - 1}")
        source.rename(room.outside / "dir")
        (room.outside / "dir").rename(room.root / f"dir{number}")
    await room.hinted("dir", "dir0", "dir4")
    await room.settled()
    (room.root / "dir4/sub/a.md").write_text("x")
    await room.hinted("dir4/sub/a.md")
    assert room.watcher.overflows == 0


async def test_names_that_are_no_utf8_arrive_as_fsdecode_gives_them(room: Room) -> None:
    await room.watch()
    (room.root / os.fsdecode(b"caf\xe9.md")).write_text("x")
    await room.hinted("caf\udce9.md")


async def test_ignored_names_wake_nobody(room: Room) -> None:
    (room.root / ".git/objects").mkdir(parents=True)
    await room.watch(ignore=lambda path: path.startswith(".git/") or path.endswith(".swp"))
    await room.settled()
    (room.root / ".git/objects/1").write_text("x")
    (room.root / ".git/index").write_text("x")
    (room.root / ".a.swp").write_text("x")
    await room.settled()
    assert room.seen == {}
    (room.root / ".git").rename(room.root / "git")
    await room.hinted("git/objects/1")
    await room.settled()
    (room.root / "git/objects/2").write_text("x")
    await room.hinted("git/objects/2")


async def test_several_roots_share_one_observer_and_keep_their_hints_apart(room: Room) -> None:
    (room.root / "inner").mkdir()
    room.watcher.add("nested", room.root / "inner")
    room.watcher.add("same", room.root)
    room.watcher.add("other", room.outside)
    await room.watch()
    (room.root / "inner/a.md").write_text("x")
    (room.outside / "b.md").write_text("x")
    await room.hinted("inner/a.md")
    await room.hinted("a.md", mirror="nested")
    await room.hinted("inner/a.md", mirror="same")
    await room.hinted("b.md", mirror="other")
    assert not any(hint.path == "b.md" for mirror in ("m", "same", "nested") for hint in room.seen[mirror])
    assert inotify_watches() == [3]


async def test_mirrors_of_one_root_ignore_each_for_itself(room: Room) -> None:
    (room.root / "drafts").mkdir()
    room.watcher.add("all", room.root)
    await room.watch(ignore=lambda path: path.startswith("drafts/"))
    await room.quiet()
    assert room.seen == {}
    (room.root / "drafts/a.md").write_text("x")
    await room.hinted("drafts/a.md", mirror="all")
    (room.root / "b.md").write_text("x")
    await room.hinted("b.md")
    assert "m" in room.seen
    assert {hint.path for hint in room.seen["m"]} == {"b.md"}


async def test_every_directory_has_a_watch_in_the_kernel(room: Room) -> None:
    for number in range(300):
        (room.root / f"{number // 30}/{number}").mkdir(parents=True)
    await room.watch()
    assert inotify_watches() == [1 + 10 + 300]


async def test_a_handler_that_fails_asks_for_everything_and_the_next_event_still_arrives(room: Room) -> None:
    def ignore(path: str) -> bool:
        if path == "bad":
            raise ValueError(path)
        return False

    await room.watch(ignore=ignore)
    (room.root / "bad").write_text("x")
    await room.everything()
    # Writing a traceback takes a while on a busy machine, and each of the file's events fails.
    await room.quiet(1.0)
    room.seen.clear()
    (room.root / "good").write_text("x")
    await room.hinted("good")
    assert room.watcher.alive()


async def test_a_full_inbox_asks_for_everything(room: Room) -> None:
    room.watcher._inbox = room.inbox = Inbox(asyncio.get_running_loop(), limit=10)
    await room.watch()
    for number in range(50):
        (room.root / str(number)).touch()
    await room.everything()


def covered_anywhere(room: Room, path: str) -> bool:
    return any(hint.path == path or hint.path.startswith(path + "/") for hint in room.seen.get("m", [])) or (
        EVERYTHING in room.seen.get("m", [])
    )
