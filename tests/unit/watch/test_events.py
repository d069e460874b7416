import asyncio
import os
import statistics
import time

from syncd.core.model import EVERYTHING, Hint
from syncd.watch.observer import Inbox, Root
from tests.unit.watch.harness import WatchHarness, inotify_watches


async def test_an_edit_hints_its_path_within_milliseconds(harness: WatchHarness) -> None:
    await harness.watch()
    assert harness.watcher.status("m").mode == "inotify"
    took: list[float] = []
    for number in range(20):
        await harness.quiet(0.03)
        started = time.perf_counter()
        (harness.root / "a.md").write_text(str(number))
        batch = await asyncio.wait_for(harness.inbox.get_batch(), 5)
        took.append(time.perf_counter() - started)
        assert batch == {"m": [Hint("a.md", subtree=False)]}
    assert statistics.median(took) < 0.05


async def test_reading_and_listing_give_no_hints(harness: WatchHarness) -> None:
    (harness.root / "sub").mkdir()
    (harness.root / "sub/a.md").write_text("text")
    await harness.watch()
    await harness.settled()
    for _ in range(50):
        (harness.root / "sub/a.md").read_bytes()
        list((harness.root / "sub").iterdir())
        (harness.root / "sub/a.md").stat()
    await harness.quiet()
    assert harness.seen == {}


async def test_create_change_chmod_and_delete_all_hint_the_file(harness: WatchHarness) -> None:
    await harness.watch()
    path = harness.root / "a.md"
    for act in (path.touch, lambda: path.write_text("x"), lambda: path.chmod(0o600), path.unlink):
        act()
        await harness.hinted("a.md")
        await harness.settled()


async def test_an_atomic_save_hints_the_new_path(harness: WatchHarness) -> None:
    (harness.root / "a.md").write_text("old")
    await harness.watch()
    (harness.root / ".a.tmp").write_text("new")
    await harness.settled()
    (harness.root / ".a.tmp").replace(harness.root / "a.md")
    await harness.hinted("a.md", ".a.tmp")


async def test_an_atomic_save_from_outside_hints_the_new_path(harness: WatchHarness) -> None:
    await harness.watch()
    (harness.outside / "new").write_text("new")
    (harness.outside / "new").replace(harness.root / "a.md")
    await harness.hinted("a.md")


async def test_directories_made_quickly_are_covered_with_all_their_files(harness: WatchHarness) -> None:
    await harness.watch()
    paths = [f"a{top}/b/c/{name}.md" for top in range(20) for name in range(5)]
    for path in paths:
        (harness.root / path).parent.mkdir(parents=True, exist_ok=True)
        (harness.root / path).write_text("x")
    await harness.hinted(*paths)
    await harness.settled()
    (harness.root / "a19/b/c/later.md").write_text("x")
    await harness.hinted("a19/b/c/later.md")


async def test_a_directory_moved_in_is_hinted_and_watched(harness: WatchHarness) -> None:
    (harness.outside / "dir/sub").mkdir(parents=True)
    (harness.outside / "dir/sub/a.md").write_text("x")
    await harness.watch()
    (harness.outside / "dir").rename(harness.root / "dir")
    await harness.hinted("dir/sub/a.md")
    await harness.settled()
    (harness.root / "dir/sub/a.md").write_text("y")
    await harness.hinted("dir/sub/a.md")


async def test_a_directory_moved_within_reports_its_later_edits_under_the_new_path(harness: WatchHarness) -> None:
    (harness.root / "old/sub").mkdir(parents=True)
    (harness.root / "target").mkdir()
    await harness.watch()
    (harness.root / "old").rename(harness.root / "target/new")
    await harness.hinted("old", "target/new")
    await harness.settled()
    (harness.root / "target/new/sub/a.md").write_text("x")
    await harness.hinted("target/new/sub/a.md")
    assert not covered_anywhere(harness, "old")


async def test_a_directory_moved_out_is_hinted_and_no_longer_watched(harness: WatchHarness) -> None:
    (harness.root / "dir/sub").mkdir(parents=True)
    await harness.watch()
    started = time.monotonic()
    (harness.root / "dir").rename(harness.outside / "dir")
    await harness.hinted("dir")
    assert time.monotonic() - started < 0.3
    await harness.settled()
    (harness.outside / "dir/sub/a.md").write_text("x")
    await harness.settled()
    (harness.outside / "dir/sub/b.md").write_text("x")
    await harness.quiet()
    assert harness.seen == {}


async def test_a_directory_moved_out_and_replaced_at_once_is_watched_at_its_old_path(harness: WatchHarness) -> None:
    (harness.root / "dir/sub").mkdir(parents=True)
    await harness.watch()
    (harness.root / "dir").rename(harness.outside / "dir")
    (harness.root / "dir/sub").mkdir(parents=True)
    await harness.hinted("dir")
    await harness.settled()
    (harness.root / "dir/sub/a.md").write_text("x")
    await harness.hinted("dir/sub/a.md")


async def test_a_directory_moved_out_and_back_under_another_name_is_watched_there(harness: WatchHarness) -> None:
    (harness.root / "dir/sub").mkdir(parents=True)
    await harness.watch()
    for number in range(5):
        source = harness.root / ("dir" if number == 0 else f"dir{number - 1}")
        source.rename(harness.outside / "dir")
        (harness.outside / "dir").rename(harness.root / f"dir{number}")
    await harness.hinted("dir", "dir0", "dir4")
    await harness.settled()
    (harness.root / "dir4/sub/a.md").write_text("x")
    await harness.hinted("dir4/sub/a.md")
    assert harness.watcher.overflows == 0


async def test_a_name_that_is_not_utf8_arrives_as_os_fsdecode_returns_it(harness: WatchHarness) -> None:
    await harness.watch()
    (harness.root / os.fsdecode(b"caf\xe9.md")).write_text("x")
    await harness.hinted("caf\udce9.md")


async def test_ignored_paths_give_no_hint(harness: WatchHarness) -> None:
    (harness.root / ".git/objects").mkdir(parents=True)
    await harness.watch(ignore=lambda path: path.startswith(".git/") or path.endswith(".swp"))
    await harness.settled()
    (harness.root / ".git/objects/1").write_text("x")
    (harness.root / ".git/index").write_text("x")
    (harness.root / ".a.swp").write_text("x")
    await harness.settled()
    assert harness.seen == {}
    (harness.root / ".git").rename(harness.root / "git")
    await harness.hinted("git/objects/1")
    await harness.settled()
    (harness.root / "git/objects/2").write_text("x")
    await harness.hinted("git/objects/2")


async def test_several_roots_share_one_observer_and_keep_their_hints_apart(harness: WatchHarness) -> None:
    (harness.root / "inner").mkdir()
    harness.watcher.add(Root("nested", harness.root / "inner"))
    harness.watcher.add(Root("same", harness.root))
    harness.watcher.add(Root("other", harness.outside))
    await harness.watch()
    (harness.root / "inner/a.md").write_text("x")
    (harness.outside / "b.md").write_text("x")
    await harness.hinted("inner/a.md")
    await harness.hinted("a.md", mirror="nested")
    await harness.hinted("inner/a.md", mirror="same")
    await harness.hinted("b.md", mirror="other")
    assert not any(hint.path == "b.md" for mirror in ("m", "same", "nested") for hint in harness.seen[mirror])
    assert inotify_watches() == [3]


async def test_mirrors_of_one_root_have_ignores_of_their_own(harness: WatchHarness) -> None:
    (harness.root / "drafts").mkdir()
    harness.watcher.add(Root("all", harness.root))
    await harness.watch(ignore=lambda path: path.startswith("drafts/"))
    await harness.quiet()
    assert harness.seen == {}
    (harness.root / "drafts/a.md").write_text("x")
    await harness.hinted("drafts/a.md", mirror="all")
    (harness.root / "b.md").write_text("x")
    await harness.hinted("b.md")
    assert "m" in harness.seen
    assert {hint.path for hint in harness.seen["m"]} == {"b.md"}


async def test_every_directory_has_a_watch_in_the_kernel(harness: WatchHarness) -> None:
    for number in range(300):
        (harness.root / f"{number // 30}/{number}").mkdir(parents=True)
    await harness.watch()
    assert inotify_watches() == [1 + 10 + 300]


async def test_a_handler_that_fails_asks_for_everything_and_the_next_event_still_arrives(harness: WatchHarness) -> None:
    def ignore(path: str) -> bool:
        if path == "bad":
            raise ValueError(path)
        return False

    await harness.watch(ignore=ignore)
    (harness.root / "bad").write_text("x")
    await harness.everything()
    # Writing a traceback takes a while on a busy machine, and each of the file's events fails.
    await harness.quiet(1.0)
    harness.seen.clear()
    (harness.root / "good").write_text("x")
    await harness.hinted("good")
    assert harness.watcher.alive()


async def test_a_full_inbox_asks_for_everything(harness: WatchHarness) -> None:
    harness.watcher._inbox = harness.inbox = Inbox(asyncio.get_running_loop(), limit=10)
    await harness.watch()
    for number in range(50):
        (harness.root / str(number)).touch()
    await harness.everything()


def covered_anywhere(harness: WatchHarness, path: str) -> bool:
    return any(hint.path == path or hint.path.startswith(path + "/") for hint in harness.seen.get("m", [])) or (
        EVERYTHING in harness.seen.get("m", [])
    )
