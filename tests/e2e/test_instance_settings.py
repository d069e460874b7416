"""Settings of an instance and of a KV namespace: made from the config, and compared by `check`."""

from tests.e2e.harness import Workspace

SETTINGS = """[mirrors.docs.target.settings]
embedding_model = "@cf/baai/bge-m3"
chunk_size = 512
cache_ttl = 600
index_method = { vector = true, keyword = false }
public_endpoint_params = { enabled = true, mcp = { description = "The handbook" } }
"""


def found(workspace: Workspace, what: str) -> list[tuple[str, str, str | None]]:
    """Return level, message and remedy of the lines of `check` about one subject."""
    checked = workspace.syncd("check", "--json")
    assert checked.code == 0, checked.out
    lines = [line for line in checked.json()["checks"] if line["what"] == f"docs: {what}"]
    return [(line["level"], line["message"], line["remedy"]) for line in lines]


def test_an_instance_is_made_with_the_settings_and_its_drift_is_shown(workspace: Workspace) -> None:
    workspace.configure(more=SETTINGS)
    workspace.write("a.md")
    assert workspace.syncd("reconcile").code == 0
    made = workspace.remote.instance()
    assert (made["embedding_model"], made["chunk_size"], made["cache_ttl"]) == ("@cf/baai/bge-m3", 512, 600)
    assert made["index_method"] == {"vector": True, "keyword": False}
    assert found(workspace, "settings") == [("ok", "as in the config: 7 of 7", None)]

    workspace.remote.instance(
        chunk_size=256,
        cache_ttl=3600,
        public_endpoint_params={"enabled": False, "mcp": {"description": "The handbook"}},
    )
    workspace.configure(more=SETTINGS.replace("bge-m3", "bge-small-en-v1.5"))
    before = workspace.remote.instance()
    lines = found(workspace, "settings")
    assert [(level, message.partition(" is ")[0], message.partition("; ")[2]) for level, message, _ in lines] == [
        ("warn", "embedding_model", "it can never be changed"),
        ("warn", "chunk_size", "it can be changed in place, but then the service indexes all items again"),
        ("warn", "cache_ttl", "it can be changed in place, and nothing is indexed again"),
        (
            "warn",
            "public_endpoint_params.enabled",
            "it can be changed in place, but an update replaces the whole object",
        ),
        ("ok", "as in the config: 3 of 7", ""),
    ]
    assert "npx wrangler ai-search update docs --chunk-size 512" in str(lines[1][2])
    assert "→ set it to 256 in the config, or run: npx wrangler" in workspace.syncd("check").out

    workspace.write("b.md")
    assert workspace.syncd("reconcile").code == 0
    assert workspace.remote.instance() == before


def test_a_setting_that_the_service_refuses_is_named(workspace: Workspace) -> None:
    workspace.configure(more=SETTINGS.replace("512", "1000000"))
    workspace.write("a.md")
    refused = workspace.syncd("reconcile")
    assert refused.code == 3
    assert "7036" in refused.err


def test_a_wrong_setting_starts_nothing(workspace: Workspace) -> None:
    workspace.configure(more=SETTINGS.replace("chunk_size", "chunksize"))
    refused = workspace.syncd("reconcile")
    assert refused.code == 2
    assert "unknown key mirrors.docs.target.settings.chunksize; did you mean chunk_size?" in refused.err
    assert workspace.remote.counted()["total"] == 0


def test_a_namespace_is_made_in_its_jurisdiction_and_the_drift_is_shown(workspace: Workspace) -> None:
    kv = '[mirrors.docs.target]\ntype = "kv"\nnamespace_title = "docs"\ncreate = true\njurisdiction = "eu"\n'
    workspace.configure()
    start = workspace.config.read_text(encoding="utf-8").partition("[mirrors.docs.target]")[0]
    workspace.config.write_text(start + kv, encoding="utf-8")
    workspace.write("a.md")
    assert workspace.syncd("reconcile").code == 0
    assert found(workspace, "jurisdiction") == [("ok", "eu, as in the config", None)]
    workspace.config.write_text(start + kv.replace("eu", "us"), encoding="utf-8")
    [(level, message, remedy)] = found(workspace, "jurisdiction")
    assert (level, message) == ("warn", '"eu" in the namespace and "us" in the config; it can never be changed')
    assert "namespace_title" in str(remedy)
