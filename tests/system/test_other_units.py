"""The units beside syncd.service: passes by a timer, one syncd for each config, and that of a user."""

import pytest

from tests.e2e.harness import TOKEN
from tests.system.conftest import UNITS, Site

pytestmark = pytest.mark.slow

PASS, TIMER = "syncd-reconcile.service", "syncd-reconcile.timer"
ANN = "getent passwd ann || useradd -u 1000 -g nogroup -d /home/ann ann; install -d -m 700 -o ann /run/user/1000"
OF_ANN = ("HOME=/home/ann", "XDG_RUNTIME_DIR=/run/user/1000")
AS_ANN = ("setpriv", "--reuid=ann", "--regid=nogroup", "--clear-groups", "env", *OF_ANN)
# What user@1000.service does, without a login.
USER_MANAGER = (
    *("--unit=syncd-user-manager", "--uid=ann", "-pDelegate=yes", "-pType=notify", "-q"),
    *(f"--setenv={each}" for each in OF_ANN),
    *("/lib/systemd/systemd", "--user"),
)


def test_the_timer_makes_a_pass_and_leaves_nothing_running(site: Site) -> None:
    site.machine.write("/srv/docs/a.md", "text")
    site.machine.write(f"/etc/systemd/system/{TIMER}.d/now.conf", "[Timer]\nRandomizedDelaySec=0\nOnActiveSec=0\n")
    site.machine.does("systemctl", "daemon-reload")
    site.machine.does("systemctl", "start", TIMER)
    site.holds(a="text")
    site.machine.becomes(PASS, ActiveState="inactive", Result="success")
    assert site.machine.show(TIMER)["SubState"] == "waiting"
    assert any("1 put" in line for line in site.machine.journal(PASS))


def test_a_pass_by_hand_shows_as_failed_if_a_file_was_refused(site: Site) -> None:
    site.machine.write("/srv/docs/a.md", "text")
    site.machine.write("/srv/docs/huge.md", "x" * (11 << 20))
    assert site.machine.tries("systemctl", "start", PASS).returncode == 1
    shown = site.machine.show(PASS)
    assert (shown["ActiveState"], shown["ExecMainStatus"]) == ("failed", "1")
    assert any("huge.md" in line for line in site.machine.journal(PASS))
    site.holds(a="text")


def test_a_pass_while_the_daemon_runs_is_left_to_the_daemon(site: Site) -> None:
    site.start()
    site.machine.does("systemctl", "start", PASS)
    assert any("unchanged" in line for line in site.machine.journal(PASS))
    site.machine.becomes(PASS, ActiveState="inactive", Result="success")
    assert site.machine.show("syncd.service")["ActiveState"] == "active"


def test_the_daemon_takes_over_from_passes_with_their_state(site: Site) -> None:
    site.machine.write("/srv/docs/a.md", "text")
    site.machine.does("systemctl", "start", PASS)
    site.start()
    site.machine.saw("syncd.service", "pass.done", scope="all", unchanged=1)
    assert not site.machine.events("syncd.service", "put.done")


def test_two_instances_run_side_by_side_each_with_its_own_config_token_and_state(site: Site) -> None:
    for name in ("one", "two"):
        site.configure(f"/etc/syncd/{name}", name, token=f"{TOKEN}-{name}")
        site.machine.write(f"/srv/{name}/a.md", f"of {name}")
    site.machine.does("systemctl", "start", "syncd@one", "syncd@two")
    for name in ("one", "two"):
        unit = f"syncd@{name}.service"
        site.holds(name, a=f"of {name}")
        shown = site.machine.becomes(unit, ActiveState="active", StatusText=f"{name}: idle, 1 in step")
        assert site.machine.does("ps", "-o", "user=", "-p", shown["MainPID"]).strip() == f"syncd-{name}"
        assert site.machine.path(f"/var/lib/private/syncd-{name}/state.db").exists()
        held = site.machine.path(f"/run/credentials/{unit}/cloudflare_api_token").read_text()
        assert held == f"{TOKEN}-{name}"
    site.machine.does("systemctl", "stop", "syncd@one")
    site.machine.write("/srv/two/b.md", "alone")
    site.holds("two", a="of two", b="alone")


@pytest.mark.parametrize("sandbox", [False, True])
def test_the_unit_of_a_user_follows_a_folder_that_only_this_user_may_read(site: Site, *, sandbox: bool) -> None:
    machine = site.machine
    machine.does("sh", "-c", ANN)
    config = machine.path("/etc/syncd/config.toml").read_text().replace("/srv/docs", "/home/ann/docs")
    config = config.replace("tpslimit", 'api_token_file = "token"\ntpslimit')
    machine.write("/home/ann/.config/syncd/config.toml", config)
    machine.write("/home/ann/.config/syncd/token", TOKEN, 0o600)
    if sandbox:
        drop_in = (UNITS / "user/syncd.service.d/sandbox.conf").read_text()
        machine.write("/home/ann/.config/systemd/user/syncd.service.d/sandbox.conf", drop_in)
        machine.path("/home/ann/.local/state/syncd").mkdir(parents=True)
        # The first sandboxed service of the system leaves the directory that sandboxes of users need.
        machine.path("/run/systemd/unit-root").mkdir(exist_ok=True)
    machine.write("/home/ann/docs/a.md", "of Ann", 0o600)
    machine.path("/home/ann/syncd-venv").symlink_to("/opt/syncd")
    machine.does("chown", "-R", "ann", "/home/ann")
    machine.path("/home/ann/docs").chmod(0o700)
    machine.does("systemd-run", *USER_MANAGER)
    machine.does(*AS_ANN, "systemctl", "--user", "start", "syncd")
    site.holds(a="of Ann")
    machine.write("/home/ann/docs/b.md", "later")
    site.holds(a="of Ann", b="later")
    assert machine.path("/home/ann/.local/state/syncd/state.db").exists()
    machine.does(*AS_ANN, "systemctl", "--user", "stop", "syncd")
    shown = machine.does(*AS_ANN, "systemctl", "--user", "show", "syncd")
    assert "Result=success\n" in shown


def test_all_units_are_right_in_the_eyes_of_the_systemd_that_runs_them(site: Site) -> None:
    for unit in ("syncd.service", "syncd@one.service", PASS, TIMER):
        ended = site.machine.tries("systemd-analyze", "verify", f"/etc/systemd/system/{unit}")
        assert (ended.returncode, ended.stderr) == (0, "")
