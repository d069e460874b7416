"""What syncd.service does when it cannot start: one clear state, and no start after the other for ever."""

import pytest

from tests.e2e.harness import TOKEN, until
from tests.system.conftest import Site

pytestmark = pytest.mark.slow

UNIT = "syncd.service"
ENCRYPTED = "/etc/credstore.encrypted/cloudflare_api_token"
DECRYPTING = ("LoadCredential=", f"LoadCredentialEncrypted=cloudflare_api_token:{ENCRYPTED}")


def fails(site: Site, **properties: str) -> list[str]:
    """Start it: it ends in that state and is not started again. Return what the journal has of it."""
    assert site.machine.tries("systemctl", "start", UNIT).returncode != 0
    shown = site.machine.becomes(UNIT, ActiveState="failed")
    assert {name: shown[name] for name in properties} == properties
    assert shown["NRestarts"] == "0"
    return site.machine.journal(UNIT)


def test_a_wrong_config_is_told_and_not_tried_again(site: Site) -> None:
    site.drop_in(UNIT, "RestartSec=0")
    site.machine.write("/etc/syncd/config.toml", "[cloudflare]\naccount_id = 5\n")
    said = fails(site, Result="exit-code", ExecMainStatus="2")
    assert any("config.toml:2: cloudflare.account_id" in line for line in said), said


def test_without_its_token_it_fails_at_once_and_is_not_tried_again(site: Site) -> None:
    site.drop_in(UNIT, "RestartSec=0")
    site.machine.path("/etc/syncd/token").unlink()
    said = fails(site, Result="exit-code", ExecMainStatus="243")
    assert any("credential" in line.lower() for line in said)


def test_an_empty_token_is_a_wrong_config(site: Site) -> None:
    site.machine.write("/etc/syncd/token", "", 0o600)
    said = fails(site, ExecMainStatus="2")
    assert any("credential cloudflare_api_token: the file should hold the token alone" in line for line in said)


def test_an_encrypted_token_is_decrypted_at_the_start(site: Site) -> None:
    site.machine.path(ENCRYPTED).parent.mkdir()
    # Not where the key of a machine may be kept, so it has to be named.
    site.machine.does(
        "systemd-creds", "encrypt", "--with-key=host", "--name=cloudflare_api_token", "-", ENCRYPTED, given=TOKEN
    )
    assert TOKEN.encode() not in site.machine.path(ENCRYPTED).read_bytes()
    site.machine.path("/etc/syncd/token").unlink()
    site.drop_in(UNIT, *DECRYPTING)
    site.start()
    site.machine.write("/srv/docs/a.md", "text")
    site.holds(a="text")


def test_a_token_that_cannot_be_decrypted_is_not_tried_again(site: Site) -> None:
    site.drop_in(UNIT, *DECRYPTING, "RestartSec=0")
    site.machine.write(ENCRYPTED, "what another machine has encrypted")
    fails(site, Result="exit-code", ExecMainStatus="243")


def test_a_missing_program_is_not_tried_again(site: Site) -> None:
    site.drop_in(UNIT, "ExecStart=", "ExecStart=/opt/nowhere/bin/syncd run", "RestartSec=0")
    fails(site, Result="exit-code", ExecMainStatus="203")


def test_what_crashes_at_every_start_is_given_up_after_ten(site: Site) -> None:
    site.drop_in(UNIT, "ExecStart=", "ExecStart=/bin/sh -c 'exit 70'", "RestartSec=0")
    site.machine.tries("systemctl", "start", UNIT)
    site.machine.becomes(UNIT, ActiveState="failed", NRestarts="10")
    assert any("Start request repeated too quickly" in line for line in site.machine.journal(UNIT))


def test_a_mirror_that_halts_does_not_end_the_service(site: Site) -> None:
    site.machine.path("/srv/docs").rmdir()
    site.start()
    site.machine.saw(UNIT, "mirror.halted", mirror="docs")
    until(lambda: site.machine.show(UNIT)["StatusText"].startswith("docs: halted"))
    site.machine.becomes(UNIT, ActiveState="active", NRestarts="0")
    site.machine.write("/srv/docs/a.md", "it is there at last")
    site.holds(a="it is there at last")
