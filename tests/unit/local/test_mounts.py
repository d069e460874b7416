"""The kernel's table of mounts, and its comparison with the remembered mounts."""

from pathlib import Path

import pytest

from syncd.local.mounts import Mounts, survey
from syncd.sync.guard import compare_mounts

TABLE = rb"""22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
30 22 8:2 / /srv/docs/data rw - xfs /dev/sdb rw
31 22 8:1 /home/me/notes /srv/docs/my\040notes rw - ext4 /dev/sda1 rw
32 22 8:1 /srv/docs/self /srv/docs/self rw - ext4 /dev/sda1 rw
33 30 0:40 / /srv/docs/data/inner rw - nfs4 nas:/vol rw
34 22 0:41 / /srv/docs/twice rw - autofs systemd-1 rw
35 34 0:42 / /srv/docs/twice rw - nfs4 nas:/two rw
36 22 0:43 / /srv/other/x rw - tmpfs tmpfs rw
37 22 0:44 / /srv/other rw - overlay overlay rw
garbage
"""


def test_only_mounts_that_can_be_reached_are_below_a_root() -> None:
    mounts = Mounts(TABLE)
    found = {each.point: each.identity() for each in mounts.below("/srv/docs")}
    assert found == {
        "/srv/docs/data": "xfs / /dev/sdb",
        "/srv/docs/my notes": "ext4 /home/me/notes /dev/sda1",
        "/srv/docs/data/inner": "nfs4 / nas:/vol",
        "/srv/docs/twice": "nfs4 / nas:/two",
    }, "a mount that shows the same files does not count"
    assert [each.point for each in mounts.below("/srv/other")] == [], "hidden by the mount above it"


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/srv/docs", "/"),
        ("/srv/docs/data/a", "/srv/docs/data"),
        ("/srv/docs/self", "/"),
        ("/srv/other/x", "/srv/other"),
        ("/srv/docs/database", "/"),
    ],
)
def test_a_path_lies_on_the_mount_that_is_seen_there(path: str, point: str) -> None:
    held = Mounts(TABLE).holder(path)
    assert held is not None
    assert held.point == point


def test_a_root_without_mounts_below_it_lies_on_a_mount(tmp_path: Path) -> None:
    seen = survey(tmp_path, {"nothing"})
    assert (seen.root, dict(seen.inner)) == (str(tmp_path.resolve()), {})
    assert str(tmp_path).startswith(seen.point)


def compared(
    before: dict[str, str], now: dict[str, str], *, known: str = "abcd", empty: str = ""
) -> tuple[str, str, str]:
    closed, covered, inner = compare_mounts(before, [], now, known.__contains__, empty.__contains__)
    return "".join(sorted(closed)), "".join(covered), "".join(sorted(inner))


def test_a_missing_other_or_empty_mount_is_closed_and_remembered() -> None:
    assert compared({"a": "x"}, {"a": "x"}) == ("", "", "a")
    assert compared({"a": "x"}, {}) == ("a", "", "a")
    assert compared({"a": "x"}, {"a": "y"}) == ("a", "", "a")
    assert compared({"a": "x"}, {"a": "x"}, empty="a") == ("a", "", "a")


def test_a_mount_without_known_files_is_not_protected() -> None:
    assert compared({"a": "x"}, {}, known="") == ("", "", "")
    assert compared({}, {"a": "x"}, known="") == ("", "", "a")


def test_a_mount_that_comes_over_known_files_hides_them() -> None:
    assert compared({}, {"a": "x"}) == ("", "a", "a")


def test_a_mount_whose_path_was_renamed_is_not_gone() -> None:
    assert compared({"a": "x"}, {"b": "x"}, known="a") == ("", "", "b")
