"""A config becomes open mirrors. Faults of the environment are config errors, and no bugs."""

import asyncio
import errno
from pathlib import Path

import pytest

from syncd.config.schema import Config
from syncd.core.errors import ConfigError, Halt, Locked
from syncd.core.rules import IgnoreFile
from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import serve
from syncd.service import build
from syncd.service.build import NO_GRANTS, add_mirror, open_session, open_transport
from syncd.state import ownership
from syncd.sync import once
from syncd.sync.mirror import PassOptions
from syncd.text.converter import converter
from tests.unit.config.harness import MINIMAL, Place, toml

TOKEN = "s3cr3t-t0ken"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "docs").mkdir()
    return Place(tmp_path)


def with_token(place: Place, text: str = MINIMAL, token: str = TOKEN) -> Config:
    return place.load(text, {"CLOUDFLARE_API_TOKEN": token})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "socks5://127.0.0.1:1080"),
        ("HTTPS_PROXY", f"http://user:{TOKEN}@proxy:port"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
    ],
)
async def test_an_unusable_proxy_or_certificate_is_a_config_error(
    place: Place, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable) as caught:
        async with open_transport(with_token(place)):
            pass
    assert len(str(caught.value).splitlines()) == 1
    assert TOKEN not in str(caught.value)


async def test_a_lack_of_descriptors_is_no_fault_of_the_certificates(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(build, "Transport", fail)
    with pytest.raises(OSError, match="Too many open files"):
        async with open_transport(with_token(place)):
            pass


@pytest.mark.parametrize("token", ["tok\u00e9n-s3cr3t", "two words s3cr3t", "s3cr3t\x07"])
async def test_a_token_that_cannot_be_sent_is_refused_without_quoting_it(place: Place, token: str) -> None:
    with pytest.raises(ConfigError, match="API token") as caught:
        async with open_transport(with_token(place, token=token)):
            pass
    assert "s3cr3t" not in str(caught.value)


async def test_a_configured_mirror_is_uploaded_over_a_real_connection(place: Place) -> None:
    for number in range(60):
        (place.base / "docs" / f"{number}.md").write_text(f"text {number}")
    with serve(EmulatorOptions(token=TOKEN, index_delay=0)) as server:
        text = MINIMAL.replace("[mirrors.docs]", f"base_url = {toml(server.base_url)}\n[mirrors.docs]")
        config = with_token(place, text + "create = true\n")
        async with open_session(config) as session:
            report = once.Report()
            await once.run(session.mirrors["docs"], PassOptions(), lambda _: None, report)
            assert (report.error, report.exit_code, report.results[0].done) == (None, 0, {"put": 60})
            with pytest.raises(Locked):
                async with open_session(config):
                    raise AssertionError("the state directory is held")
        changing = server.requests.changing
        async with open_session(config) as session:
            report = once.Report()
            await once.run(session.mirrors["docs"], PassOptions(), lambda _: None, report)
            assert report.results[0].unchanged == 60
        assert server.requests.changing == changing == 61
        async with open_session(with_token(place, text, token="wrong")) as session:
            report = once.Report()
            await once.run(session.mirrors["docs"], PassOptions(), lambda _: None, report)
            assert isinstance(report.error, Halt)
            assert report.exit_code == 3


async def test_credentials_that_worked_are_known_to_the_next_process(place: Place) -> None:
    (place.base / "docs" / "a.md").write_text("text")
    with serve(EmulatorOptions(index_delay=0)) as server:
        text = MINIMAL.replace("[mirrors.docs]", f"tpslimit = 0\nbase_url = {toml(server.base_url)}\n[mirrors.docs]")
        text += "create = true\n"
        async with open_session(with_token(place, text)) as session:
            assert session.transport.refusal_retry.known() == []
            await once.run(session.mirrors["docs"], PassOptions(), lambda _: None, once.Report())
            known = session.transport.refusal_retry.known()
        assert {kind.rpartition(" ")[2] for kind in known} == {"read", "write"}
        async with open_session(with_token(place, text)) as session:
            assert session.transport.refusal_retry.known() == known
        for token, read_only in (("0ther-t0ken", False), (TOKEN, True), (TOKEN, False)):
            async with open_session(with_token(place, text, token=token), read_only=read_only) as session:
                # The other token has replaced the note.
                assert session.transport.refusal_retry.known() == []
        assert TOKEN.encode() not in b"".join(file.read_bytes() for file in place.base.rglob("*") if file.is_file())


async def test_the_journal_of_another_target_is_not_used(place: Place) -> None:
    (place.base / "docs" / "a.md").write_text("text")
    with serve(EmulatorOptions(index_delay=0)) as server:
        text = MINIMAL.replace("[mirrors.docs]", f"base_url = {toml(server.base_url)}\n[mirrors.docs]")
        for instance in ("docs", "other", "docs"):
            async with open_session(
                with_token(place, text.replace('instance = "docs"', f'instance = "{instance}"\ncreate = true'))
            ) as session:
                mirror = session.mirrors["docs"]
                report = once.Report()
                await once.run(mirror, PassOptions(), lambda _: None, report)
                assert report.exit_code == 0
                [entry] = [entry async for entry in mirror.target.entries()]
                assert entry.key == "a.md"


async def test_all_mirrors_of_a_process_share_one_gate(place: Place) -> None:
    second = MINIMAL[MINIMAL.index("[mirrors.docs]") :].replace("docs", "more")
    third = second.replace("more", "kept").replace('"ai-search"', '"kv"').replace("instance", "namespace_title")
    with serve(EmulatorOptions()) as server:
        text = MINIMAL.replace("[mirrors.docs]", f"base_url = {toml(server.base_url)}\n[mirrors.docs]")
        async with open_session(with_token(place, text + second + third)) as session:
            session.transport.gate.hold(3600)
            for mirror in session.mirrors.values():
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await mirror.target.check()
            assert set(session.mirrors) == {"docs", "more", "kept"}
        assert server.requests.as_json()["total"] == 0


@pytest.mark.parametrize(("text", "line"), [("s3[z-a]", 1), ("!", 1), ("ok\nbad[9-0]", 2)])
def test_an_ignore_file_with_an_invalid_pattern_is_a_value_error(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=rf"^line {line} "):
        IgnoreFile.parse("", text)


async def test_a_read_only_command_decides_no_owner_on_a_machine_without_an_id(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minimal container has no machine id."""
    monkeypatch.setattr(ownership, "MACHINE_ID_FILES", ())
    config = with_token(place)
    async with open_session(config, read_only=True) as reading:
        undecided = reading.config.mirrors["docs"].owner
    assert not config.state_dir.exists()
    async with open_session(config) as writing:
        decided = writing.config.mirrors["docs"].owner
    async with open_session(config, read_only=True) as reading:
        assert reading.config.mirrors["docs"].owner == decided
    assert undecided.startswith("docs-")
    assert undecided != decided


async def test_a_session_ends_the_conversions_of_its_mirrors(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(converter, "close", lambda: ended.append(True))
    async with open_session(with_token(place)) as session:
        [name] = session.mirrors
        add_mirror(session, name, NO_GRANTS)
        assert not ended
    assert ended == [True]
