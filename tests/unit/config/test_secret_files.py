"""Files that hold the token: their permissions, and the mirrors that would upload them."""

import errno
import os
from pathlib import Path

import pytest

from syncd.config.checks import Exposed, exposed_files
from syncd.config.file import file_values
from syncd.config.sources import holds_secret, load, login
from syncd.core.errors import EXIT_CONFIG, EXIT_HALT, ConfigError
from tests.unit.config.harness import MINIMAL, Place, toml

TOKEN = "a-token-that-nobody-may-see-4712"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "docs").mkdir()
    return Place(tmp_path)


def token_file(place: Place, mode: int, name: str = "token") -> str:
    """The config with a token file of that mode."""
    path = place.base / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(TOKEN + "\n")
    path.chmod(mode)
    return place.with_key("cloudflare.api_token_file", toml(name))


def inline(place: Place, mode: int) -> str:
    place.file.touch()
    place.file.chmod(mode)
    return place.with_key("cloudflare.api_token", toml(TOKEN))


def found(place: Place, text: str) -> list[Exposed]:
    config = place.load(text)
    return exposed_files(config, place.file, holds_secret=holds_secret(file_values(place.file)))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o600, None), (0o400, None), (0o640, "read"), (0o644, "read"), (0o660, "changed")],
)
def test_a_token_file_for_more_than_its_owner_is_reported_with_the_command_that_fixes_it(
    place: Place, mode: int, expected: str | None
) -> None:
    seen = found(place, token_file(place, mode))
    path = place.base / "token"
    assert seen == ([Exposed(f"{path} can be {expected} by others", f"chmod 600 {path}")] if expected else [])


@pytest.mark.parametrize(("mode", "expected"), [(0o600, None), (0o644, "read"), (0o620, "changed")])
def test_a_config_file_with_the_token_is_checked_like_a_token_file(
    place: Place, mode: int, expected: str | None
) -> None:
    seen = found(place, inline(place, mode))
    assert [each.message for each in seen] == ([f"{place.file} can be {expected} by others"] if expected else [])


def test_a_config_without_a_token_may_be_read_but_not_be_changed_by_everybody(place: Place) -> None:
    place.file.touch()
    place.file.chmod(0o644)
    assert found(place, MINIMAL) == []
    place.file.chmod(0o666)
    assert [each.remedy for each in found(place, MINIMAL)] == [f"chmod o-w {place.file}"]


def test_a_secret_that_everybody_may_write_is_refused_and_not_quoted(place: Place) -> None:
    config = place.load(token_file(place, 0o602))
    with pytest.raises(ConfigError, match="api_token_file: everybody may write") as caught:
        login(config)
    assert TOKEN not in str(caught.value)
    message = place.fault(inline(place, 0o606))
    assert "everybody may write" in message
    assert TOKEN not in message


def test_of_a_link_to_a_token_file_its_target_is_checked(place: Place) -> None:
    text = token_file(place, 0o600)
    (place.base / "token").rename(place.base / "real")
    (place.base / "token").symlink_to("real")
    assert found(place, text) == []


@pytest.mark.parametrize(("mode", "exposed"), [(0o700, False), (0o755, False), (0o770, True), (0o777, True)])
def test_a_state_directory_that_others_can_change_is_exposed(place: Place, mode: int, exposed: bool) -> None:
    state = place.base / "state"
    state.mkdir()
    state.chmod(mode)
    seen = found(place, f"state_dir = {toml(str(state))}\n" + MINIMAL)
    assert seen == ([Exposed(f"{state} can be changed by others", f"chmod 700 {state}")] if exposed else [])


def test_no_permissions_of_a_device_or_another_kind_of_file_are_to_be_changed(place: Place) -> None:
    text = f'state_dir = "/dev/null"\n{place.with_key("cloudflare.api_token_file", toml("/dev/null"))}'
    assert found(place, text) == []


@pytest.mark.parametrize("name", ["docs/token", "docs/deep/my.token"])
def test_a_token_file_that_would_be_uploaded_is_refused(place: Place, name: str) -> None:
    text = token_file(place, 0o600, name)
    message = place.fault(text)
    assert "which would be uploaded" in message
    assert name not in message, "a token may stand in its place"
    place.load(text.replace('path = "docs"', 'path = "docs"\nexclude = ["*token"]'))


@pytest.mark.parametrize("stronger", ["CLOUDFLARE_API_TOKEN", "SYNCD_CLOUDFLARE__API_TOKEN_FILE", "credential"])
def test_a_token_file_is_not_uploaded_where_a_stronger_login_is_in_use(place: Place, stronger: str) -> None:
    text = token_file(place, 0o600, "docs/token")
    other = place.base / "cloudflare_api_token"
    other.write_text(TOKEN)
    other.chmod(0o600)
    variable = "CREDENTIALS_DIRECTORY" if stronger == "credential" else stronger
    environ = {variable: {"CLOUDFLARE_API_TOKEN": TOKEN, "credential": str(place.base)}.get(stronger, str(other))}
    assert "which would be uploaded" in place.fault(text, environ)
    place.load(text.replace('path = "docs"', 'path = "docs"\nexclude = ["token"]'), environ)


def test_a_config_file_that_holds_the_token_and_would_be_uploaded_is_refused(place: Place) -> None:
    place.file = place.base / "docs/own.toml"
    text = place.with_key("cloudflare.api_token", toml(TOKEN)).replace('"docs"\n', '"."\n', 1)
    place.file.touch()
    place.file.chmod(0o600)
    assert "which would be uploaded" in place.fault(text)
    place.load(MINIMAL.replace('"docs"\n', '"."\n', 1))
    place.file = place.base / "docs/syncd.toml"
    place.file.touch()
    place.file.chmod(0o600)
    place.load(text)


# -- roots by other names


def test_roots_above_the_home_directory_and_other_names_of_it_are_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = place.base / "homes/me"
    (home / "docs").mkdir(parents=True)
    (place.base / "to-homes").symlink_to("homes")
    (place.base / "to-me").symlink_to("to-homes/me")
    monkeypatch.setenv("HOME", str(home))
    state = 'state_dir = "/var/lib/syncd"\n'
    for root in (
        f"{home.parent}",
        f"{home.parent}//",
        f"{home}/",
        f"{home}/docs/../",
        "to-homes",
        "to-homes/",
        "to-me",
        "to-homes/me/.",
        "/proc/self/root",
        "//",
        "/usr/..",
    ):
        message = place.fault(state + place.with_key("mirrors.docs.path", toml(root)))
        assert "is too much to mirror" in message, root
    place.load(state + place.with_key("mirrors.docs.path", toml("to-me/docs")))


def test_a_root_that_holds_the_state_directory_by_another_name_is_refused(place: Place) -> None:
    (place.base / "docs/state").mkdir()
    (place.base / "elsewhere").symlink_to("docs/state")
    for state in ("elsewhere", "elsewhere/deeper/", "docs/../docs/state", "docs/new//"):
        message = place.fault(f'state_dir = "{state}"\n' + MINIMAL)
        assert "holds the state directory" in message, state


def test_a_root_of_the_same_folder_under_another_mount_is_the_same_root(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A bind mount has another path and the same device and inode, which is all that can be seen of it.
    (place.base / "bound").mkdir()
    real = Path.samefile

    def samefile(one: Path, other: str | os.PathLike[str]) -> bool:
        return (one.name, Path(other).name) == ("docs", "bound") or real(one, other)

    monkeypatch.setattr(Path, "samefile", samefile)
    assert "holds the state directory" in place.fault('state_dir = "bound/state"\n' + MINIMAL)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_config_and_token_are_read_in_the_encoding_of_any_editor(place: Place, encoding: str) -> None:
    text = token_file(place, 0o600).replace("\n", "\r\n")
    (place.base / "token").write_bytes(f"{TOKEN} \r\n".encode(encoding))
    place.file.write_bytes(text.encode(encoding))
    config = load(place.file, {"XDG_STATE_HOME": str(place.base)})
    assert login(config) == (TOKEN, None)


@pytest.mark.parametrize("data", [TOKEN.encode() + b"\xff", b"a\0b", b"\xff\xfea"])
def test_a_token_file_that_is_no_text_is_named_and_not_quoted(place: Place, data: bytes) -> None:
    text = token_file(place, 0o600)
    (place.base / "token").write_bytes(data)
    with pytest.raises(ConfigError, match="api_token_file: the file is not text") as caught:
        login(place.load(text))
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("file", ["syncd.toml", "token"])
@pytest.mark.parametrize(
    ("number", "code", "remedy"),
    [
        (errno.EMFILE, EXIT_HALT, "raise the limit"),
        (errno.ENFILE, EXIT_HALT, "raise the limit"),
        (errno.EIO, EXIT_CONFIG, "may read|let syncd read"),
    ],
)
def test_a_file_that_cannot_be_opened_for_lack_of_descriptors_is_no_fault_of_the_config(
    place: Place, monkeypatch: pytest.MonkeyPatch, file: str, number: int, code: int, remedy: str
) -> None:
    """Systemd starts no service again whose config is wrong."""
    text, read = token_file(place, 0o600), Path.read_bytes
    place.load(text)

    def refuse(path: Path) -> bytes:
        if path.name == file:
            raise OSError(number, os.strerror(number))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match=remedy) as caught:
        login(load(place.file, {"XDG_STATE_HOME": str(place.base)}))
    assert os.strerror(number) in str(caught.value)
    assert caught.value.exit_code == code
