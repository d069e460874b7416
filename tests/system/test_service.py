"""syncd.service on a real systemd: it starts, follows, reloads, is brought back when it hangs or dies, and stops."""

import time

import pytest

from tests.e2e.harness import TOKEN, until
from tests.system.conftest import Site

pytestmark = pytest.mark.slow

UNIT = "syncd.service"


def test_it_starts_as_a_user_of_its_own_and_keeps_its_folder_in_step(site: Site) -> None:
    site.machine.write("/srv/docs/a.md", "before")
    shown = site.start()
    assert (shown["ActiveState"], shown["SubState"], shown["NRestarts"]) == ("active", "running", "0")
    site.holds(a="before")
    site.machine.write("/srv/docs/b.md", "later")
    site.holds(a="before", b="later")
    site.machine.becomes(UNIT, StatusText="docs: idle, 2 in step")
    user = site.machine.does("ps", "-o", "user=", "-p", shown["MainPID"]).strip()
    assert user == "syncd"
    environment = site.machine.path(f"/proc/{shown['MainPID']}/environ").read_text()
    assert TOKEN not in environment + "\n".join(site.machine.journal(UNIT))


TRY_ALL = """
echo trying
for each in / /etc /home /opt /root /run /srv/docs /usr /var /var/lib; do
  touch $each/probe 2>/dev/null && echo wrote to $each
done
for each in $STATE_DIRECTORY /tmp /var/tmp /dev/shm; do
  cp /bin/true $each/probe && $each/probe 2>/dev/null && echo ran from $each
done
cat /etc/syncd/token 2>/dev/null && echo read the token of root
ls /home/* /root/* 2>/dev/null && echo saw homes
kill -0 1 2>/dev/null && echo reached another process
unshare --user true 2>/dev/null && echo made a namespace
echo tried
"""


def test_what_runs_in_the_sandbox_can_do_nothing_that_it_need_not(site: Site) -> None:
    site.machine.write("/home/ann/docs/a.md", "of Ann")
    site.machine.write("/opt/try_all", TRY_ALL, 0o755)
    site.drop_in(UNIT, "ExecStartPre=/bin/sh /opt/try_all")
    shown = site.start()
    said = site.machine.journal(UNIT)
    assert said[said.index("trying") : said.index("tried") + 1] == ["trying", "tried"]
    status = site.machine.path(f"/proc/{shown['MainPID']}/status").read_text()
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status


def test_a_reload_takes_a_new_mirror_in_makes_a_full_pass_and_refuses_a_broken_config(site: Site) -> None:
    site.machine.write("/srv/docs/a.md", "of the first")
    pid = site.start()["MainPID"]
    site.holds(a="of the first")
    site.machine.write("/srv/more/b.md", "of the second")
    target = '[mirrors.more.target]\ntype = "ai-search"\ninstance = "more"\ncreate = true\n'
    site.configure(more=f'[mirrors.more]\npath = "/srv/more"\n{target}')
    site.machine.does("systemctl", "reload", UNIT)
    site.holds("more", b="of the second")
    site.machine.saw(UNIT, "pass.done", 2, mirror="docs", scope="all")
    shown = site.machine.becomes(UNIT, ActiveState="active", StatusText="docs: idle, 1 in step; more: idle, 1 in step")
    assert (shown["MainPID"], shown["NRestarts"]) == (pid, "0")

    site.machine.write("/etc/syncd/config.toml", "not toml [")
    assert site.machine.tries("systemctl", "reload", UNIT).returncode != 0
    site.machine.becomes(UNIT, ActiveState="active", SubState="running", MainPID=pid)


def test_a_daemon_that_hangs_is_started_anew_by_the_watchdog(site: Site) -> None:
    site.drop_in(UNIT, "WatchdogSec=1", "TimeoutAbortSec=1", "RestartSec=0")
    pid = site.start()["MainPID"]
    site.machine.does("systemctl", "kill", "-s", "STOP", UNIT)
    site.machine.becomes(UNIT, NRestarts="1", ActiveState="active")
    assert any("Watchdog timeout" in line for line in site.machine.journal(UNIT))
    assert site.machine.show(UNIT)["MainPID"] != pid
    site.machine.write("/srv/docs/a.md", "after")
    site.holds(a="after")


def test_a_daemon_that_lives_is_left_alone_by_the_watchdog(site: Site) -> None:
    site.drop_in(UNIT, "WatchdogSec=1")
    site.start()

    def fed_us() -> int:
        return int(site.machine.show(UNIT)["WatchdogTimestampMonotonic"])

    first = fed_us()
    until(lambda: fed_us() > first + 2_000_000, every_s=0.5)
    assert site.machine.show(UNIT)["NRestarts"] == "0"


def test_the_signal_of_the_watchdog_leaves_the_stacks_of_a_hung_daemon_in_the_journal(site: Site) -> None:
    site.drop_in(UNIT, "Restart=no")
    site.start()
    site.machine.does("systemctl", "kill", "-s", "ABRT", UNIT)
    site.machine.becomes(UNIT, ActiveState="failed", ExecMainStatus="6")
    said = site.machine.journal(UNIT)
    assert "Fatal Python error: Aborted" in said
    assert any("in run" in line for line in said)


def test_a_killed_daemon_is_started_anew_and_puts_nothing_twice(site: Site) -> None:
    site.drop_in(UNIT, "RestartSec=0")
    site.machine.write("/srv/docs/a.md", "before")
    site.start()
    site.holds(a="before")
    site.machine.saw(UNIT, "pass.done", scope="all")
    site.machine.does("systemctl", "kill", "-s", "KILL", UNIT)
    site.machine.becomes(UNIT, NRestarts="1", ActiveState="active")
    site.machine.saw(UNIT, "pass.done", 2, scope="all")
    site.machine.write("/srv/docs/b.md", "after")
    site.holds(a="before", b="after")
    assert [event["key"] for event in site.machine.events(UNIT, "put.done")] == ["a.md", "b.md"]


def test_a_stop_is_over_within_5_s_and_counts_as_success_and_the_next_start_takes_a_new_token(site: Site) -> None:
    site.start()
    began = time.monotonic()
    site.machine.does("systemctl", "stop", UNIT)
    assert time.monotonic() - began < 5
    shown = site.machine.show(UNIT)
    assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == ("inactive", "success", "0")
    assert site.machine.events(UNIT, "daemon.stop")

    site.machine.write("/etc/syncd/token", "another-token", 0o600)
    site.start()
    assert site.machine.path(f"/run/credentials/{UNIT}/cloudflare_api_token").read_text() == "another-token"
