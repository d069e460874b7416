"""Folders that not everybody may read, let in as docs/how-to/systemd.md shows."""

import pytest

from tests.system.conftest import Site

pytestmark = pytest.mark.slow

UNIT = "syncd.service"


def test_a_folder_of_a_group_is_read_by_a_service_in_that_group(site: Site) -> None:
    site.machine.write("/srv/docs/a.md", "for the group", 0o640)
    site.machine.does("sh", "-c", "getent group docs || groupadd docs; chgrp -R docs /srv/docs; chmod 750 /srv/docs")
    site.start()
    site.machine.saw(UNIT, "mirror.halted", mirror="docs")
    site.drop_in(UNIT, "SupplementaryGroups=docs")
    site.machine.does("systemctl", "restart", UNIT)
    site.holds(a="for the group")


def test_a_folder_in_a_home_is_let_in_alone(site: Site) -> None:
    site.machine.write("/home/ann/docs/a.md", "of Ann")
    site.machine.write("/home/ann/secret.txt", "not for anybody", 0o644)
    config = site.machine.path("/etc/syncd/config.toml")
    config.write_text(config.read_text().replace("/srv/docs", "/home/ann/docs"))
    site.drop_in(UNIT, "ProtectHome=tmpfs", "BindReadOnlyPaths=/home/ann/docs")
    pid = site.start()["MainPID"]
    site.holds(a="of Ann")
    seen = site.machine.path(f"/proc/{pid}/root/home")
    assert [path.name for path in seen.glob("*/*")] == ["docs"]
    site.machine.write("/home/ann/docs/b.md", "later")
    site.holds(a="of Ann", b="later")


def test_a_folder_in_a_home_that_was_not_let_in_halts_its_mirror(site: Site) -> None:
    site.machine.write("/home/ann/docs/a.md", "of Ann")
    config = site.machine.path("/etc/syncd/config.toml")
    config.write_text(config.read_text().replace("/srv/docs", "/home/ann/docs"))
    site.start()
    site.machine.saw(UNIT, "mirror.halted", mirror="docs")
