"""`syncd mcp`: sessions of agents with the real program, by the client of the official package."""

import importlib.util
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from syncd.queries.reading import MOST_BYTES
from tests.e2e.harness import TOKEN, Workspace, open_workspace
from tests.e2e.harness_mcp import TOOLS, Agent, agent, inner_agent
from tests.skips import NotHere
from tests.unit.text.documents_harness import ipynb, pptx


def indexed(workspace: Workspace, files: Mapping[str, str | bytes]) -> None:
    """Write files, and wait until all of them are searchable."""
    for name, content in files.items():
        workspace.write(name, content)
    ended = workspace.syncd("reconcile", "--wait")
    assert ended.code == 0, ended.err


async def test_an_agent_searches_and_reads_a_mirror(workspace: Workspace) -> None:
    text = "# Tokens\n\nRotate the token once a year.\n"
    indexed(workspace, {"guides/tokens.md": text, "other.md": "# Other\n\nNothing to see.\n", ".env": "PASSWORD=1"})
    async with agent(workspace) as it:
        found = await it.ask("search", query="rotate the token")
        [hit] = found["hits"]
        assert (hit["key"], hit["title"], hit["freshness"]) == ("guides/tokens.md", "Tokens", "current")
        assert hit["path"] == str(workspace.docs / "guides/tokens.md")
        assert (await it.ask("read", path=hit["key"]))["text"] == text
        assert (await it.ask("read", path=hit["path"]))["text"] == text
        listed = await it.ask("list", folder="guides")
        assert [(item["key"], item["state"], item["index"]) for item in listed["items"]] == [
            ("guides/tokens.md", "synced", "completed")
        ]
        explained = await it.ask("explain", path="guides/tokens.md")
        facts = {fact["name"]: fact["value"] for fact in explained["found"][0]["facts"]}
        assert facts["rule"] == "taken: nothing excludes it"
        status = await it.ask("status")
        assert (status["daemon_running"], status["mirrors"]["docs"]["searchable"]) == (False, 2)


async def test_the_tools_are_described_and_read_only(workspace: Workspace) -> None:
    async with inner_agent(workspace) as it:
        assert it.client.server_info
        assert it.client.server_info.name == "syncd"
        assert f"docs: {workspace.docs} → ai-search:default/docs" in (it.client.instructions or "")
        tools = (await it.client.list_tools()).tools
        assert tuple(tool.name for tool in tools) == TOOLS
        for tool in tools:
            assert tool.description
            assert tool.output_schema
            assert tool.annotations
            assert (tool.annotations.read_only_hint, tool.annotations.destructive_hint) == (True, False)
            assert (tool.annotations.idempotent_hint, tool.annotations.open_world_hint) == (True, False)
            for schema in (tool.input_schema, tool.output_schema):
                Draft202012Validator.check_schema(schema)
                assert schema["type"] == "object"
            assert tool.input_schema["additionalProperties"] is False
            assert all("description" in each for each in tool.input_schema["properties"].values()), tool.name


async def test_a_wrong_argument_is_refused_in_words(workspace: Workspace) -> None:
    async with inner_agent(workspace) as it:
        for tool, arguments, words in (
            ("search", {}, "query: is needed"),
            ("search", {"query": ""}, "query: string should have at least 1 character"),
            ("search", {"query": " "}, "the query is empty; ask a question"),
            ("search", {"query": "x", "limit": 51}, "limit: input should be less than or equal to 50"),
            ("search", {"query": "x", "limit": 10**30}, "limit: input should be less than or equal to 50"),
            ("search", {"query": "x", "depth": 1}, "depth: there is no such parameter"),
            ("search", {"query": "x", "mirror": "dcos"}, "there is no mirror dcos; name one of: docs"),
            ("search", {"query": "x", "folder": "none"}, "docs has no folder none; name one below"),
            ("read", {"path": "a.md", "offset": -1}, "offset: input should be greater than or equal to 0"),
            (
                "read",
                {"path": "a.md", "limit": MOST_BYTES + 1},
                f"than or equal to {MOST_BYTES}",
            ),
            ("read", {"path": "a.md", "line": 0}, "line: input should be greater than or equal to 1"),
            ("read", {"path": 3}, "path: input should be a valid string"),
            ("list", {"limit": 501}, "limit: input should be less than or equal to 500"),
            ("explain", {"path": "../x"}, "../x is in no mirrored folder and is no key"),
        ):
            assert words in await it.refused(tool, **arguments)
        with pytest.raises(Exception, match="there is no tool 'delete'; the tools are: search, read"):
            await it.client.call_tool("delete", {})


# -- read


async def test_nothing_outside_the_mirror_can_be_read(workspace: Workspace) -> None:
    outside = workspace.path / "outside.md"
    outside.write_text("outside")
    (workspace.path / "far").mkdir()
    (workspace.path / "far/deep.md").write_text("outside")
    indexed(workspace, {"a.md": "inside", "dir/b.md": "inside", "draft.md": "draft", ".syncdignore": "draft.md\n"})
    (workspace.docs / "link.md").symlink_to(outside)
    (workspace.docs / "near.md").symlink_to("a.md")
    (workspace.docs / "folder").symlink_to(workspace.path / "far")
    (workspace.docs / "pipe.md").unlink(missing_ok=True)
    os.mkfifo(workspace.docs / "pipe.md")
    async with inner_agent(workspace) as it:
        for path, words in (
            ("../outside.md", "is in no mirrored folder"),
            ("dir/../../outside.md", "is in no mirrored folder"),
            (str(outside), "is in no mirrored folder"),
            ("/etc/passwd", "is in no mirrored folder"),
            ("/proc/self/environ", "is in no mirrored folder"),
            (f"{workspace.docs}/../outside.md", "is in no mirrored folder"),
            ("link.md", "a symbolic link is not mirrored"),
            ("near.md", "a symbolic link is not mirrored"),
            ("folder/deep.md", "the mirror docs has no file"),
            ("folder", "a symbolic link is not mirrored"),
            ("pipe.md", "a FIFO is not mirrored"),
            ("draft.md", "is left out of the mirror docs by .syncdignore line 1: draft.md"),
            (".syncdignore", "is left out of the mirror docs"),
            ("dir", "dir is a directory; list shows its files"),
            (str(workspace.config), "is in no mirrored folder"),
            ("gone.md", "the mirror docs has no file gone.md; list shows the files that it has"),
            ("a\0b", "control character"),
            ("x" * 4000, "File name too long"),
        ):
            said = await it.refused("read", path=path)
            assert words in said, (path, said)
            assert "outside\n" not in said
        # A directory becomes a link after the mirror was indexed.
        (workspace.docs / "dir/b.md").unlink()
        (workspace.docs / "dir").rmdir()
        (workspace.docs / "dir").symlink_to(workspace.path / "far")
        assert "the mirror docs has no file" in await it.refused("read", path="dir/deep.md")


async def test_links_inside_the_mirror_are_read_if_the_mirror_sends_them(workspace: Workspace) -> None:
    workspace.configure(mirror='links = "inside"')
    (workspace.path / "outside.md").write_text("outside")
    indexed(workspace, {"a.md": "inside", "id_rsa": "secret"})
    (workspace.docs / "near.md").symlink_to("a.md")
    (workspace.docs / "far.md").symlink_to("../outside.md")
    (workspace.docs / "key.md").symlink_to("id_rsa")
    async with inner_agent(workspace) as it:
        assert (await it.ask("read", path="near.md"))["text"] == "inside"
        assert "it leads out of the folder" in await it.refused("read", path="far.md")
        assert "is left out of the mirror docs by built-in exclude: id_rsa*" in await it.refused("read", path="key.md")


async def whole(it: Agent, path: str, limit: int) -> str:
    """Return a file that is read part by part."""
    text: str = ""
    offset = 0
    while True:
        part = await it.ask("read", path=path, offset=offset, limit=limit)
        assert part["offset"] == offset
        assert len(part["text"].encode()) <= max(limit, 4)
        text += part["text"]
        if part["next_offset"] is None:
            return text
        offset = part["next_offset"]


async def test_a_file_is_read_in_parts(workspace: Workspace) -> None:
    text = "ä€𝄞\r\n" * 9 + "end"
    large = "line\n" * (MOST_BYTES // 5 + 1)
    indexed(workspace, {"a.md": text, "large.md": large, "utf16.md": ("\ufeff" + text).encode("utf-16-le")})
    async with inner_agent(workspace) as it:
        for limit in (1, 3, 5, 1000):
            assert await whole(it, "a.md", limit) == text
        assert await whole(it, "utf16.md", 11) == text
        assert await whole(it, "large.md", MOST_BYTES) == large
        part = await it.ask("read", path="a.md", line=9, lines=2)
        assert (part["text"], part["line"], part["next_offset"]) == ("ä€𝄞\r\nend", 9, None)
        part = await it.ask("read", path="a.md", line=2, lines=1)
        assert (part["text"], part["line"], part["next_offset"]) == ("ä€𝄞\r\n", 2, 2 * len("ä€𝄞\r\n".encode()))
        part = await it.ask("read", path="large.md", line=1, lines=10_000)
        assert (part["text"], part["next_offset"]) == ("line\n" * 10_000, 50_000)
        for beyond in ({"offset": 10**15}, {"line": 10**15}):
            part = await it.ask("read", path="a.md", **beyond)
            assert (part["text"], part["next_offset"]) == ("", None)
            assert part["offset"] == part["size"] == len(text.encode())


async def test_a_file_that_is_no_text_is_named_as_such(workspace: Workspace) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(100)
    indexed(workspace, {"picture.pdf": png, "latin.md": "Grüße".encode("latin-1"), "app.exe": png})
    async with inner_agent(workspace) as it:
        for name in ("picture.pdf", "latin.md"):
            assert f"{name} cannot be read as text" in await it.refused("read", path=name)
        assert "app.exe is not mirrored, so it cannot be read here" in await it.refused("read", path="app.exe")


async def test_a_converted_document_is_read_as_a_search_finds_it(workspace: Workspace) -> None:
    if importlib.util.find_spec("kreuzberg") is None:
        raise NotHere("kreuzberg is not installed; it is in requirements-dev.txt")
    workspace.configure('convert = ["*.pptx", "*.ipynb"]\nas_text = ["*.ts"]')
    cells = [{"cell_type": "markdown", "source": f"Lantern {number} burns"} for number in range(1000)]
    indexed(workspace, {"talk.pptx": pptx("The harbour opens"), "lab.ipynb": ipynb(*cells), "app.ts": "let tide"})
    workspace.write("broken.ipynb", "{")
    async with inner_agent(workspace) as it:
        [hit] = (await it.ask("search", query="harbour"))["hits"]
        part = await it.ask("read", path=hit["key"])
        assert (part["converted"], part["text"]) == (True, hit["text"])
        text = await whole(it, "lab.ipynb", 4096)
        assert text.startswith("Lantern 0 burns\n\nLantern 1 burns\n")
        part = await it.ask("read", path="lab.ipynb", line=1999)
        assert (part["text"], part["line"]) == ("Lantern 999 burns\n", 1999)
        workspace.write("lab.ipynb", ipynb({"cell_type": "markdown", "source": "All dark"}))
        assert (await it.ask("read", path="lab.ipynb"))["text"] == "All dark\n"
        part = await it.ask("read", path="app.ts")
        assert (part["converted"], part["text"]) == (False, "let tide")
        assert "the file is no readable document" in await it.refused("read", path="broken.ipynb")


async def test_odd_names(workspace: Workspace) -> None:
    names = (
        "with space.md",
        "-m.md",
        "100%.md",
        "back\\slash.md",
        "'quotes\".md",
        unicodedata.normalize("NFD", "é.md"),
    )
    indexed(workspace, dict.fromkeys((*names, "日本/語.md"), "zebra"))
    workspace.write("new\nline.md", "zebra")
    workspace.write(os.fsdecode(b"\xff.md"), "zebra")
    workspace.syncd("reconcile")
    async with inner_agent(workspace) as it:
        keys = await it.keys("zebra")
        assert sorted(keys) == sorted(unicodedata.normalize("NFC", name) for name in (*names, "日本/語.md"))
        for key in keys:
            assert (await it.ask("read", path=key))["text"] == "zebra"
        listed = {item["key"]: item["state"] for item in (await it.ask("list"))["items"]}
        bad = [key for key, state in listed.items() if state == "rejected: invalid_key"]
        assert sorted(bad) == ["\\xff.md", "new\nline.md"]
        for key in bad:
            assert "rename it" in await it.refused("read", path=key)
            [found] = (await it.ask("explain", path=key))["found"]
            assert {"name": "rule", "value": "not sent: invalid_key"} in found["facts"]


# -- search, list, status


async def test_a_search_takes_a_folder_filters_and_a_limit(workspace: Workspace) -> None:
    indexed(
        workspace,
        {"a/one.md": "# One\n\nzebra", "b/two.md": "# Two\n\nzebra zebra", "b/c/three.md": "# Three\n\nzebra lion"},
    )
    async with inner_agent(workspace) as it:
        assert sorted(await it.keys("zebra")) == ["a/one.md", "b/c/three.md", "b/two.md"]
        assert sorted(await it.keys("zebra", folder="b")) == ["b/c/three.md", "b/two.md"]
        assert await it.keys("zebra", folder=f"{workspace.docs}/b/c/") == ["b/c/three.md"]
        assert await it.keys("zebra", folder="a", mirror="", filters={"title": "One"}) == ["a/one.md"]
        assert await it.keys("zebra", folder="a", filters={"title": "Two"}) == []
        assert len(await it.keys("zebra", limit=2)) == 2
        assert await it.keys("giraffe") == []
        assert "colour" in await it.refused("search", query="zebra", filters={"colour": "red"})
        # The current directory of the server means nothing to an agent.
        assert "docs has no folder docs" in await it.refused("search", query="zebra", folder="docs")


async def test_a_hit_tells_whether_its_file_has_changed(workspace: Workspace) -> None:
    names = ("current.md", "changed.md", "gone.md")
    indexed(workspace, dict.fromkeys(names, "zebra"))
    workspace.remote.upload("foreign.md", b"zebra")
    workspace.write("foreign.md", "horse")
    workspace.write("changed.md", "horse")
    (workspace.docs / "gone.md").unlink()
    async with inner_agent(workspace) as it:
        found = await it.ask("search", query="zebra")
        assert {hit["key"]: hit["freshness"] for hit in found["hits"]} == {
            "current.md": "current",
            "changed.md": "changed",
            "gone.md": "missing",
            "foreign.md": "unknown",
        }
        assert found["left_out"] == 0


async def test_a_search_shows_nothing_that_is_no_part_of_the_mirror(workspace: Workspace) -> None:
    names = ("open.md", "salary.md", "old/plan.md")
    indexed(workspace, dict.fromkeys(names, "zebra"))
    # The entries of excluded files stay, and so does what others have written to the same instance.
    workspace.write(".syncdignore", "salary.md\nold/")
    (workspace.docs / "old/plan.md").unlink()
    workspace.remote.upload("others.md", b"zebra")
    workspace.remote.upload("same.md", b"zebra")
    workspace.write("same.md", "horse")
    assert workspace.syncd("reconcile").code == 1, "the name is taken"
    async with inner_agent(workspace) as it:
        found = await it.ask("search", query="zebra")
        assert ([hit["key"] for hit in found["hits"]], found["left_out"]) == (["open.md"], 4)


async def test_mirrors_that_share_an_instance_do_not_see_each_other(workspace: Workspace) -> None:
    more = workspace.path / "more"
    more.mkdir()
    (more / "pay.md").write_text("zebra of others")
    workspace.configure(
        'key_prefix = "ours-"',
        more=f'[mirrors.more]\npath = "{more}"\nkey_prefix = "theirs/"\n[mirrors.more.target]\n'
        'type = "ai-search"\ninstance = "docs"',
    )
    indexed(workspace, {"a.md": "zebra"})
    # The mirror has a file of the same name as a file of the other one.
    workspace.write("theirs/pay.md", "horse")
    async with inner_agent(workspace, "docs") as it:
        assert await it.keys("zebra") == ["ours-a.md"]
        assert await it.keys("zebra", filters={"folder": "theirs/"}) == []
    async with inner_agent(workspace, "more") as it:
        assert await it.keys("zebra") == ["theirs/pay.md"]


async def test_content_that_was_sent_and_not_indexed_yet(tmp_path: Path) -> None:
    with open_workspace(tmp_path, index_delay=0.0, slow_index="a.md", slow_index_delay=3600.0) as workspace:
        workspace.write("a.md", "zebra")
        workspace.write("b.md", "zebra")
        workspace.syncd("reconcile")
        async with inner_agent(workspace) as it:
            items = {item["key"]: item["index"] for item in (await it.ask("list"))["items"]}
            assert items["a.md"] in ("queued", "running")
            status = (await it.ask("status"))["mirrors"]["docs"]
            assert status["index"]["queued"] + status["index"]["running"] >= 1


async def test_a_list_has_pages(workspace: Workspace) -> None:
    names = [f"{folder}/{number:02}.md" for folder in ("a", "a b", "b") for number in range(5)]
    indexed(workspace, dict.fromkeys(names, "text") | {"a/03.exe": "text"})
    async with inner_agent(workspace) as it:
        for folder, limit in (("", 4), ("", 16), ("", 17), ("a", 1), ("a", 6), ("a b", 500)):
            keys: list[str] = []
            cursor = None
            while True:
                page = await it.ask("list", folder=folder, limit=limit, **({"cursor": cursor} if cursor else {}))
                assert len(page["items"]) <= limit
                keys += [item["key"] for item in page["items"]]
                cursor = page["next_cursor"]
                if cursor is None:
                    break
                assert len(page["items"]) == limit
            wanted = sorted([*names, "a/03.exe"])
            assert keys == [name for name in wanted if name.startswith(f"{folder}/" if folder else "")]
        last = await it.ask("list", cursor="\U0010fffe")
        assert (last["items"], last["next_cursor"]) == ([], None)


async def test_before_the_first_pass_the_answers_say_so(workspace: Workspace) -> None:
    workspace.write("a.md", "zebra")
    async with inner_agent(workspace) as it:
        assert (await it.ask("list"))["note"] == "nothing is known yet; run: syncd reconcile"
        assert (await it.ask("read", path="a.md"))["text"] == "zebra"
        assert (await it.ask("status"))["mirrors"]["docs"]["last_reconcile"] is None
        [found] = (await it.ask("explain", path="a.md"))["found"]
        assert {"name": "status", "value": "nothing is known yet; run: syncd reconcile"} in found["facts"]
        assert "does not exist" in await it.refused("search", query="zebra")
        # The same server sees what other commands do.
        indexed(workspace, {})
        assert await it.keys("zebra") == ["a.md"]
        assert [item["key"] for item in (await it.ask("list"))["items"]] == ["a.md"]


async def test_a_server_works_beside_the_daemon(workspace: Workspace) -> None:
    workspace.write("a.md", "zebra")
    with workspace.daemon() as daemon:
        daemon.saw("pass.done")
        workspace.in_step()
        async with inner_agent(workspace) as it:
            assert (await it.ask("status"))["daemon_running"] is True
            assert await it.keys("zebra") == ["a.md"]
            workspace.write("b.md", "zebra lion")
            workspace.in_step()
            assert sorted(await it.keys("zebra")) == ["a.md", "b.md"]


async def test_several_mirrors_are_named_and_can_be_chosen(workspace: Workspace) -> None:
    more = workspace.path / "more"
    more.mkdir()
    (more / "a.md").write_text("in more")
    workspace.write("a.md", "in docs")
    workspace.configure(
        more=f'[mirrors.kv]\npath = "{more}"\n[mirrors.kv.target]\ntype = "kv"\nnamespace_title = "kv"\ncreate = true'
    )
    assert workspace.syncd("reconcile", "--wait").code == 0
    async with inner_agent(workspace) as it:
        for tool, arguments in (("search", {"query": "in"}), ("list", {}), ("read", {"path": "a.md"})):
            assert "which mirror? Name one of: docs, kv" in await it.refused(tool, **arguments)
        assert (await it.ask("read", path="a.md", mirror="kv"))["text"] == "in more"
        assert (await it.ask("read", path=str(more / "a.md")))["mirror"] == "kv"
        assert "Workers KV has no search" in await it.refused("search", query="in", mirror="kv")
        assert {name: each["can_search"] for name, each in (await it.ask("status"))["mirrors"].items()} == {
            "docs": True,
            "kv": False,
        }
        assert [each["mirror"] for each in (await it.ask("explain", path="a.md"))["found"]] == ["docs", "kv"]
    async with inner_agent(workspace, "docs") as it:
        assert (await it.ask("read", path="a.md"))["text"] == "in docs"
        assert list((await it.ask("status"))["mirrors"]) == ["docs"]
        assert "there is no mirror kv; name one of: docs" in await it.refused("list", mirror="kv")
        assert "is in no mirrored folder" in await it.refused("read", path=str(more / "a.md"))


# -- trouble


async def test_a_changed_config_counts_at_once(workspace: Workspace) -> None:
    indexed(workspace, {"a.md": "zebra"})
    async with agent(workspace) as it:
        assert (await it.ask("read", path="a.md"))["text"] == "zebra"
        good = workspace.config.read_text()
        workspace.configure(mirror='exclude = ["a.md"]')
        assert "by exclude: a.md" in await it.refused("read", path="a.md")
        workspace.config.write_text("nonsense =")
        for tool, arguments in (("read", {"path": "a.md"}), ("status", {}), ("search", {"query": "zebra"})):
            assert "is not valid TOML" in await it.refused(tool, **arguments)
        workspace.config.write_text(good)
        assert await it.keys("zebra") == ["a.md"]


async def test_trouble_with_the_target_and_the_state_is_told_in_words(workspace: Workspace) -> None:
    indexed(workspace, {"a.md": "zebra"})
    workspace.environment["CLOUDFLARE_API_TOKEN"] = ""
    async with inner_agent(workspace) as it:
        assert "no API token: set CLOUDFLARE_API_TOKEN" in await it.refused("search", query="zebra")
        assert (await it.ask("read", path="a.md"))["text"] == "zebra"
    workspace.environment.clear()
    workspace.configure(cloudflare="retry_for = 0.2".replace("retry_for", "timeout"))
    async with inner_agent(workspace) as it:
        state = workspace.state / "state.db"
        kept = state.read_bytes()
        for file in workspace.state.glob("state.db-*"):
            file.unlink()
        state.write_bytes(b"nonsense" * 1000)
        said = await it.refused("list")
        assert "is damaged" in said
        assert "stop syncd and delete it" in said
        state.write_bytes(kept)
        assert TOKEN not in said


async def test_a_search_while_the_target_cannot_be_reached(workspace: Workspace) -> None:
    indexed(workspace, {"a.md": "zebra"})
    text = workspace.config.read_text().replace(workspace.server.base_url, "http://127.0.0.1:9/client/v4")
    workspace.config.write_text(text.replace("retry_for = 5", "retry_for = 0.2"))
    async with inner_agent(workspace) as it:
        said = await it.refused("search", query="zebra")
        assert "127.0.0.1" in said or "reach" in said
        assert TOKEN not in said
        assert (await it.ask("read", path="a.md"))["text"] == "zebra"


# -- several calls


@pytest.mark.slow
async def test_two_calls_at_once_and_a_cancelled_one(tmp_path: Path) -> None:
    with open_workspace(tmp_path, latency=1.0) as workspace:
        workspace.write("a.md", "zebra")
        workspace.syncd("reconcile")
        async with agent(workspace) as it:
            await it.keys("zebra")
            began = anyio.current_time()
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(it.keys, "zebra")
                await it.ask("status")
                assert anyio.current_time() - began < 0.9, "a local answer waits for no search"
            assert anyio.current_time() - began < 3
            with anyio.move_on_after(0.2) as scope:
                await it.keys("zebra")
            assert scope.cancelled_caught
            assert (await it.ask("read", path="a.md"))["text"] == "zebra"
            assert await it.keys("zebra") == ["a.md"]
