"""The token is in no output, no state file and no command line, in every failure."""

import signal
from pathlib import Path

from tests.e2e.harness import PATIENCE_S, TOKEN, open_workspace, until


def test_the_token_appears_nowhere(tmp_path: Path) -> None:
    with open_workspace(tmp_path, token="another", index_delay=0.0) as workspace:
        workspace.write("a.md", "harmless")
        workspace.write(f"{'k' * 130}.md", "rejected")
        texts: list[str] = []
        for arguments in (("-vv", "reconcile", "--json"), ("status",), ("check",), ("-vv", "search", "x"), ("retry",)):
            seen = workspace.syncd(*arguments)
            texts += [seen.out, seen.err]
        assert any("authentication refused" in text for text in texts)
    with open_workspace(_new_folder(tmp_path / "second"), token=TOKEN) as workspace:
        secret = workspace.path / "token"
        secret.write_text(TOKEN + "\n")
        secret.chmod(0o600)
        workspace.configure(cloudflare=f'api_token_file = "{secret}"')
        workspace.write("a.md", "harmless")
        with workspace.daemon("-vv", env={"CLOUDFLARE_API_TOKEN": None}) as daemon:
            workspace.in_step()
            texts.append(workspace.syncd("status", "--json").out)
            daemon.send(signal.SIGHUP)
            until(lambda: len([event for event in daemon.events("pass.done") if event["scope"] == "all"]) >= 2)
            daemon.stop()
            texts += [daemon.text(), daemon.out()]
    with open_workspace(_new_folder(tmp_path / "third"), token=TOKEN, latency=PATIENCE_S) as workspace:
        process = workspace.really("reconcile")
        until(lambda: "reconcile" in Path(f"/proc/{process.pid}/cmdline").read_text())
        texts.append(Path(f"/proc/{process.pid}/cmdline").read_text())
        process.kill()
        texts += [stream.decode() for stream in process.communicate()]
    for text in texts:
        assert TOKEN not in text
    states = [file for file in tmp_path.rglob("state/*") if file.is_file()]
    assert {"state.db", "lock"} <= {file.name for file in states}
    for file in states:
        assert TOKEN.encode() not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0, file


def test_a_file_name_with_the_token_is_hidden_in_json(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write(f"{TOKEN}.md")
        for arguments in (("plan",), ("reconcile",), ("ls",), ("status",), ("log",)):
            seen = workspace.syncd(*arguments, "--json")
            assert (TOKEN in seen.out, "[hidden].md" in seen.out) == (False, True), arguments


def test_a_token_as_short_as_a_letter_leaves_the_log_readable_and_is_warned_about(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("x.md", "text")
        env: dict[str, str | None] = {"CLOUDFLARE_API_TOKEN": "x"}
        seen = workspace.syncd("-vv", "--log-format", "json", "reconcile", env=env)
        assert (seen.code, "[hidden]" in seen.err + seen.out) == (0, False)
        assert '"x.md"' in seen.err
        checked = workspace.syncd("check", "--json", env=env)
        (token,) = [check for check in checked.json()["checks"] if check["what"] == "token"]
        assert (token["level"], token["message"]) == (
            "warn",
            "shorter than 8 characters, so the log and messages do not hide it",
        )
        assert checked.code == 0


def _new_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_check_and_the_start_warn_about_a_token_file_that_others_can_read(tmp_path: Path) -> None:
    with open_workspace(tmp_path, token=TOKEN) as workspace:
        secret = workspace.path / "token"
        secret.write_text(TOKEN + "\n")
        secret.chmod(0o644)
        workspace.configure(cloudflare=f'api_token_file = "{secret}"')
        workspace.write("a.md")
        env: dict[str, str | None] = {"CLOUDFLARE_API_TOKEN": None}
        checked = workspace.syncd("check", env=env)
        assert (checked.code, f"chmod 600 {secret}" in checked.out, "exposed" in checked.err) == (0, True, False)
        with workspace.daemon(env=env) as daemon:
            daemon.saw("secret.exposed", remedy=f"chmod 600 {secret}")
            workspace.in_step()
        secret.chmod(0o602)
        for command in ("check", "reconcile", "run"):
            refused = workspace.syncd(command, env=env)
            assert refused.code == 2
            assert "everybody may write to the file" in refused.out + refused.err
            assert TOKEN not in refused.out + refused.err
