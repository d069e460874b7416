import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.core.model import EVERYTHING, Hint
from syncd.local.mounts import network_filesystem
from syncd.local.read import root_identity
from syncd.watch import observer
from syncd.watch.observer import Root
from tests.unit.watch.harness import WatchHarness

MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:50 / /mnt/nas rw shared:2 - nfs4 nas:/vol rw
31 30 8:2 / /mnt/nas/local rw - xfs /dev/sdb rw
32 22 0:51 / /mnt/with\040blank rw master:3 propagate_from:2 - fuse.sshfs host:/ rw
33 22 0:52 / /mnt/twice rw - cifs //nas/x rw
34 22 8:3 / /mnt/twice rw - ext4 /dev/sdc rw
garbage
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv", None),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/docs/a", "nfs4"),
        ("/mnt/nas2", None),
        ("/mnt/nas/local/docs", None),
        ("/mnt/with blank/docs", "fuse.sshfs"),
        ("/mnt/twice/docs", None),
        # A part of the root that gives no events is reason enough.
        ("/mnt", "nfs4"),
        ("/", "nfs4"),
    ],
)
def test_the_innermost_mount_tells_whether_a_root_is_on_the_network(
    tmp_path: Path, path: str, kind: str | None
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert network_filesystem(Path(path), tmp_path / "mountinfo") == kind


@pytest.mark.parametrize(
    "kind",
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "9p",
        "fuse.sshfs",
        "fuse.rclone",
        "vboxsf",
        "virtiofs",
        "afs",
        "ceph",
        "glusterfs",
        "fuse.glusterfs",
        "lustre",
    ],
)
def test_network_file_systems_are_known_by_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "mountinfo").write_text(f"22 1 8:1 / /srv/docs rw - {kind} x rw\n")
    assert network_filesystem(Path("/srv/docs/a"), tmp_path / "mountinfo") == kind


def test_without_mountinfo_no_root_is_on_the_network(tmp_path: Path) -> None:
    assert network_filesystem(tmp_path, tmp_path / "none") is None
    assert network_filesystem(tmp_path) is None


def test_the_advice_is_a_sufficient_command(tmp_path: Path) -> None:
    (tmp_path / "max_user_watches").write_text("1000000\n")
    (tmp_path / "max_user_instances").write_text("128\n")
    assert "sysctl fs.inotify.max_user_watches=2097152," in observer.watch_limit_advice(100_000, tmp_path)
    assert "limit (1000000) is too low" in observer.watch_limit_advice(100_000, tmp_path)
    assert "sysctl fs.inotify.max_user_instances=512," in observer.instance_limit_advice(tmp_path)
    assert "(limit 128, or" in observer.instance_limit_advice(tmp_path)


def test_the_advice_names_no_limit_where_the_sandbox_hides_it(tmp_path: Path) -> None:
    watches, instances = observer.watch_limit_advice(5, tmp_path), observer.instance_limit_advice(tmp_path)
    assert "limit is too low for 5 directories: sysctl fs.inotify.max_user_watches=524288," in watches
    assert "(limit, or" in instances


def test_the_identity_of_a_root_is_none_when_there_is_none(tmp_path: Path) -> None:
    found = tmp_path.stat()
    assert root_identity(tmp_path) == (found.st_dev, found.st_ino)
    assert root_identity(tmp_path / "none") is None
    assert root_identity(Path("/nul\0")) is None


async def test_a_network_root_is_polled_unless_inotify_is_asked_for(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "network_filesystem", lambda _: "nfs4")
    harness.watcher.add(Root("forced", harness.outside, "inotify"))
    await harness.watch("auto")
    assert harness.watcher.status("forced").mode == "inotify"
    assert harness.watcher.status("m").mode == "poll"
    assert "nfs4" in harness.watcher.status("m").detail


async def test_watching_can_be_off_and_still_notices_the_root(harness: WatchHarness) -> None:
    await harness.watch("off")
    assert harness.watcher.status("m").mode == "off"
    (harness.root / "a.md").touch()
    await harness.quiet()
    assert harness.seen == {}
    harness.root.rename(harness.root.with_name("away"))
    await harness.everything()
    assert "missing" in harness.watcher.status("m").detail


def renamed_and_replaced(root: Path) -> None:
    root.rename(root.with_name("away"))
    root.mkdir()


def removed_and_made_again(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def swapped_by_rename(root: Path) -> None:
    new = root.with_name("new")
    new.mkdir()
    root.rename(root.with_name("away"))
    new.rename(root)


@pytest.mark.parametrize("mode", ["inotify", "poll"])
@pytest.mark.parametrize("swap", [renamed_and_replaced, removed_and_made_again, swapped_by_rename])
async def test_a_replaced_root_gets_a_full_pass_and_a_new_watch(
    harness: WatchHarness, swap: Callable[[Path], None], mode: str
) -> None:
    (harness.root / "sub").mkdir()
    await harness.watch("inotify" if mode == "inotify" else "poll")
    swap(harness.root)
    # A new folder may get the inode of the removed one. The poller then compares the files.
    await harness.until(lambda: bool({EVERYTHING, Hint("sub", subtree=True)} & set(harness.seen.get("m", []))))
    await harness.quiet()
    harness.seen.clear()
    (harness.root / "a.md").write_text("x")
    await harness.hinted("a.md")
    assert harness.watcher.status("m").mode == mode
    assert harness.watcher.alive()


async def test_a_root_that_vanishes_and_returns_is_noticed_both_times(harness: WatchHarness) -> None:
    (harness.root / "sub").mkdir()
    await harness.watch()
    harness.root.rename(harness.root.with_name("away"))
    await harness.everything()
    await harness.until(lambda: harness.watcher.status("m").mode == "off")
    assert "missing" in harness.watcher.status("m").detail
    assert harness.watcher.alive()
    await harness.quiet()
    harness.seen.clear()
    harness.root.with_name("away").rename(harness.root)
    await harness.everything()
    await harness.quiet()
    harness.seen.clear()
    (harness.root / "sub/a.md").write_text("x")
    await harness.hinted("sub/a.md")


async def test_a_root_that_appears_later_is_watched_then(harness: WatchHarness) -> None:
    harness.root.rmdir()
    await harness.watch()
    assert harness.watcher.status("m").mode == "off"
    harness.root.mkdir()
    await harness.everything()
    await harness.quiet()
    (harness.root / "a.md").write_text("x")
    await harness.hinted("a.md")


async def test_a_link_as_root_is_followed_to_its_old_and_new_target(harness: WatchHarness, tmp_path: Path) -> None:
    real, other = harness.root, harness.outside
    harness.root = tmp_path / "link"
    harness.root.symlink_to(real, target_is_directory=True)
    await harness.watch()
    (real / "a.md").write_text("x")
    await harness.hinted("a.md")
    (tmp_path / "next").symlink_to(other, target_is_directory=True)
    (tmp_path / "next").rename(harness.root)
    await harness.everything()
    await harness.quiet()
    harness.seen.clear()
    (other / "b.md").write_text("x")
    await harness.hinted("b.md")


async def test_two_mirrors_of_one_root_both_survive_its_replacement(harness: WatchHarness) -> None:
    harness.watcher.add(Root("twin", harness.root))
    await harness.watch()
    renamed_and_replaced(harness.root)
    await harness.everything()
    await harness.everything("twin")
    await harness.quiet()
    harness.seen.clear()
    (harness.root / "a.md").write_text("x")
    await harness.hinted("a.md")
    await harness.hinted("a.md", mirror="twin")
