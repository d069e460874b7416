"""The rules: the built-in list, the patterns of the config, and ignore files."""

import re
from pathlib import Path

import pytest

from syncd.core.probe_answers import PROBE_STEM
from syncd.core.rules import BUILTIN_EXCLUDES, DOTTED, GROUPS, PROBES, RESERVED, IgnoreFile, Rules

NFC, NFD = "caf\u00e9", "cafe\u0301"
PAGE = Path(__file__).parents[3] / "docs/reference/excludes.md"

OUT = """
.env .ENV prod.env a/.env.local .env.production .env-prod .envrc .dev.vars web/.dev.vars.staging .wrangler/
prod.env.bak credentials.json my-credentials.json .claude/.credentials.json Credentials.CSV secrets.yaml SECRETS.YML
secret.yaml secrets.prod.yaml db-secrets.json .secrets .streamlit/secrets.toml passwords.csv client_secret_12.json
service-account.json service-account-prod.json my-service-account.json x-firebase-adminsdk-a1-b2.json
.docker/config.json home/.docker/config.json .aws/credentials .aws/config .kube/config kubeconfig .pgpass
.git-credentials .config/gh/hosts.yml .config/gcloud/application_default_credentials.json .azure/accessTokens.json
gcloud/credentials.db .boto .s3cfg .cargo/credentials.toml .gem/credentials .terraformrc .vault-token .htpasswd
wp-config.php a.jks A.KEYSTORE work.ovpn key.ppk server.pem id_rsa id_ed25519.pub keys/id_ecdsa .bash_history
.python_history .zsh_history .Rhistory terraform.tfstate terraform.tfstate.backup prod.tfvars prod.auto.tfvars.json
sops/age/keys.txt etc/shadow etc/ssh/ssh_host_ed25519_key wallet.dat rclone.conf .cloudflared/cert.json credentials
node_modules/ a/node_modules/ .venv/ venv/lib/ lib/python3.11/site-packages/ .direnv/ .terraform/ CVS/Root .git .git/
.obsidian/ .obsidian/plugins/x/data.json .trash/ .Trash-1000/ .Trashes .stversions/ .stfolder $RECYCLE.BIN/
.dropbox.cache/ .~lock.a.odt# ~$x.docx ~$Report.xlsx ._a .DS_Store THUMBS.DB Desktop.ini @eaDir/ .ipynb_checkpoints/
.nfs000000001 .fuse_hidden0001 .syncthing.a.md.tmp .#a #a# a~ a.swp a.bak a.orig .idea/ .vscode/ syncd.toml #recycle/
vendor/lib/.git/ .hg/ .svn/ .jj/ .netrc .npmrc .pypirc .ssh/ .gnupg/ store.p12 store.pfx all.kdbx id_rsa.pub id_dsa
web/.env.production tls/server.key tls/server.pem id_ed25519 id_ecdsa notes/.a.md.swp .a.md.swo .a.md.swx 4913 .#lock
#autosave# a.md~ ._resource lost+found/ __pycache__/ .syncdignore sub/.syncdignore
"""
IN = """
.env.example .env.sample .env.template .env.production.example example.env sample.env a/template.env my-example.env
env.md environment.md docs/secrets.md credentials.md guides/passwords.html passwords.txt secrets.rst docs/credentials/
docs/secrets/ tokens.json key.md keys.txt public.crt a.asc shadow.md docs/shadow config.json docker/config.json venv/
venv.md docs/venv/index.md cvs/ cvs/anna.md .gitignore .github/ .well-known/ vendor/ build/ dist/ lib/ bin/
kubeconfig/ kubeconfig.md a.tmp a.log a.part target/ .docker/ trash/ history.md a.tfvars.example npmrc.md .htaccess
a.md docs/ git environment key monkey.md a#b#.md
"""


@pytest.mark.parametrize("path", OUT.split())
def test_secrets_dependencies_and_temporary_files_are_excluded(path: str) -> None:
    rule = Rules().excluded_deep(path)
    assert rule is not None
    assert rule.startswith("built-in exclude: ")
    assert Rules().quick_test()(path) or any(
        Rules().quick_test()(path[: at + 1]) for at, c in enumerate(path) if c == "/"
    )


@pytest.mark.parametrize("path", IN.split())
def test_documents_and_templates_are_included(path: str) -> None:
    assert Rules().excluded_deep(path) is None


@pytest.mark.parametrize(("name", "rule"), [("..data", DOTTED), (f"{PROBE_STEM}1.md", PROBES)])
@pytest.mark.parametrize("folder", ["", "a/", "a/b/"])
def test_reserved_names_are_excluded_in_every_folder(folder: str, name: str, rule: str) -> None:
    assert Rules().excluded(folder + name) == Rules().excluded(f"{folder}{name}/") == rule
    assert Rules().excluded(f"{folder}x{name}") is None


@pytest.mark.parametrize("pattern", RESERVED)
def test_no_pattern_takes_a_reserved_name_back(pattern: str) -> None:
    name = pattern.replace("*", "x.md")
    ours = IgnoreFile.parse("", f"!{pattern}\n!{name}\n")
    assert Rules(exclude=(f"!{pattern}", f"!{name}")).excluded(name, [ours]) in (DOTTED, PROBES)
    assert f"`{pattern.removesuffix('*')}`" in PAGE.read_text(encoding="utf-8")


def test_a_gitignore_does_not_override_the_built_in_list() -> None:
    git = IgnoreFile.parse("", "!.env\n!secrets.yaml\n", ".gitignore")
    ours = IgnoreFile.parse("", "!.env\n")
    assert Rules().excluded(".env", [git]) == "built-in exclude: .env"
    assert Rules().excluded(".env", [git, ours]) is None
    assert Rules(exclude=("!.env",)).excluded(".env", [git]) is None


def test_other_rules_may_exclude_exceptions_of_the_built_in_list() -> None:
    git = IgnoreFile.parse("", ".env.*\n", ".gitignore")
    assert Rules().excluded(".env.example", [git]) == ".gitignore line 1: .env.*"


def test_a_syncdignore_overrides_every_gitignore() -> None:
    git = [IgnoreFile.parse("", "*.log\n", ".gitignore"), IgnoreFile.parse("a/", "!x.log\ny.md\n", ".gitignore")]
    rules = Rules()
    assert rules.excluded("b.log", git) == ".gitignore line 1: *.log"
    assert rules.excluded("a/x.log", git) is None, "the deeper one has the word, as in git"
    ours = IgnoreFile.parse("", "x.log\n!y.md\n")
    assert rules.excluded("a/x.log", [git[0], ours, git[1]]) == ".syncdignore line 1: x.log"
    assert rules.excluded("a/y.md", [git[0], ours, git[1]]) is None


def test_the_page_has_the_groups_and_patterns_of_the_code() -> None:
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    shown = {part.partition("\n")[0].lower(): re.findall(r"^    (.+)$", part, re.MULTILINE) for part in parts}
    for name, patterns in GROUPS.items():
        assert shown[name] == list(patterns), name
    assert len(set(BUILTIN_EXCLUDES)) == len(BUILTIN_EXCLUDES)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("a/keep.log", "a/.syncdignore line 1: !keep.log"),
        ("a/b.md", "include: *.md"),
        ("docs/b.txt", "include: docs/"),
        ("a/b.txt", None),
    ],
)
def test_the_pattern_that_includes_a_file_is_named(path: str, rule: str | None) -> None:
    ignores = [IgnoreFile.parse("a/", "!keep.log\n")]
    assert Rules(include=("*.md", "docs/")).included_by(path, ignores) == rule
    assert Rules().included_by("a/b.md") is None


def test_of_two_ignore_files_the_deeper_one_decides_and_a_folder_is_not_below_itself() -> None:
    ignores = [IgnoreFile.parse("", "*.log\n"), IgnoreFile.parse("a/", "!x.log\n*\n!x.log\n")]
    assert Rules().excluded("a/x.log", ignores) is None
    assert Rules().excluded("a/y.log", ignores) == "a/.syncdignore line 2: *"
    assert Rules().excluded("b/x.log", ignores) == ".syncdignore line 1: *.log"
    assert Rules().excluded("a/", ignores) is None


@pytest.mark.parametrize(
    ("patterns", "path", "out"),
    [
        (["*.tmp"], "a/b.tmp", True),
        (["*.tmp"], "a/b.tmp.md", False),
        (["drafts/"], "drafts/", True),
        (["drafts/"], "a/drafts/", True),
        (["drafts/"], "drafts", False),  # a file of that name is no directory
        (["/drafts/"], "a/drafts/", False),
        (["a/*.md"], "a/b.md", True),
        (["a/*.md"], "a/c/b.md", False),
        (["a/**/z.md"], "a/b/c/z.md", True),
        (["a/**"], "a/b", True),
        (["?.md"], "a.md", True),
        (["?.md"], "ab.md", False),
        (["[ab].md"], "b.md", True),
        (["[!ab].md"], "b.md", False),
        (["# no pattern"], "# no pattern", False),
        (["\\#real"], "#real", True),
        (["\\!real"], "!real", True),
        (["*.md", "!keep.md"], "keep.md", False),
        (["!keep.md", "*.md"], "keep.md", True),
        (["!.env"], ".env", False),  # a person may overrule the built-in list
        (["a b.md"], "a b.md", True),
        (["trailing.md   "], "trailing.md", True),
        ([NFC], NFC, True),
        ([NFD], NFC, True),
    ],
)
def test_patterns_mean_what_they_mean_in_a_gitignore(patterns: list[str], path: str, out: bool) -> None:
    assert (Rules(exclude=tuple(patterns)).excluded(path) is not None) is out


def test_the_rule_that_excludes_a_path_is_named() -> None:
    assert Rules(exclude=("drafts/",)).excluded("drafts/") == "exclude: drafts/"
    ignore = IgnoreFile.parse("a/", "*.tmp\n")
    assert Rules().excluded("a/x.tmp", [ignore]) == "a/.syncdignore line 1: *.tmp"


@pytest.mark.parametrize(
    ("rules", "lines"),
    [
        (Rules(), None),
        (Rules(exclude=("/a/b.md", "drafts/")), None),
        (Rules(exclude=("/a/b.m?",)), None),
        (Rules(include=("*.txt",)), None),
        (Rules(), "b.md"),
    ],
)
def test_no_rule_excludes_a_path_that_the_quick_test_denies(rules: Rules, lines: str | None) -> None:
    ignores = [] if lines is None else [IgnoreFile.parse("a/", lines)]
    paths = ["a/b.md", "a/c.txt", "a/drafts/", "a/.env", "a/.env.example", "x/a/b.md"]
    left_out = [path for path in paths if rules.excluded(path, ignores)]
    assert "a/.env" in left_out
    assert set(left_out) <= {path for path in paths if rules.quick_test(ignores)(path)}


def test_an_excluded_directory_excludes_its_content() -> None:
    rules = Rules(exclude=("drafts/", "!drafts/keep.md"))
    assert rules.excluded("drafts/keep.md") is None, "judged alone"
    assert rules.excluded_deep("drafts/keep.md") == "exclude: drafts/"
    assert rules.excluded_deep("a/drafts/b/c.md") == "exclude: drafts/"
    assert rules.excluded_deep("a/b/c.md") is None


def test_include_matches_files_only() -> None:
    rules = Rules(include=("*.md", "/img/**"))
    assert rules.excluded("a/b.md") is None
    assert rules.excluded("img/x.png") is None
    assert rules.excluded("a/img/x.png") == "include: no pattern takes it"
    assert rules.excluded("a/") is None
    assert rules.excluded_deep("a/b/x.png") == "include: no pattern takes it"


def test_an_excluded_path_stays_excluded_if_include_matches() -> None:
    rules = Rules(include=("*.md",), exclude=("drafts/",))
    assert rules.excluded_deep("drafts/a.md") == "exclude: drafts/"


def test_a_negation_in_an_ignore_file_does_not_overrule_include() -> None:
    ignore = IgnoreFile.parse("", "!x.png\n")
    assert Rules(include=("*.md",)).excluded("x.png", [ignore]) == "include: no pattern takes it"


def test_the_deepest_ignore_file_decides() -> None:
    above, below = IgnoreFile.parse("", "*.log\n"), IgnoreFile.parse("a/", "!keep.log\n")
    rules = Rules()
    assert rules.excluded("x.log", [above]) is not None
    assert rules.excluded("a/x.log", [above, below]) == ".syncdignore line 1: *.log"
    assert rules.excluded("a/keep.log", [above, below]) is None
    assert rules.excluded("b/keep.log", [above, below]) is not None, "a file speaks of its own folder only"


def test_an_ignore_file_overrules_the_config() -> None:
    ignore = IgnoreFile.parse("", "!a.tmp\n")
    rules = Rules(exclude=("*.tmp",))
    assert rules.excluded("a.tmp", [ignore]) is None
    assert rules.excluded("b.tmp", [ignore]) == "exclude: *.tmp"


def test_an_ignore_file_with_a_slash_is_anchored_to_its_folder() -> None:
    ignore = IgnoreFile.parse("a/", "/top.md\nsub/\n")
    rules = Rules()
    assert rules.excluded("a/top.md", [ignore]) is not None
    assert rules.excluded("a/b/top.md", [ignore]) is None
    assert rules.excluded("a/b/sub/", [ignore]) is not None


def test_an_ignore_file_does_not_judge_the_folder_it_lies_in() -> None:
    ignore = IgnoreFile.parse("a/", "*\n!x.md\n")
    rules = Rules()
    assert rules.excluded("a/", [ignore]) is None
    assert rules.excluded_deep("a/x.md", [ignore]) is None
    assert rules.excluded_deep("a/y.md", [ignore]) is not None


def test_a_line_that_is_no_pattern_is_named() -> None:
    with pytest.raises(ValueError, match="!"):
        IgnoreFile.parse("", "fine.md\n!\n")


@pytest.mark.parametrize(
    ("path", "subtree", "observed"),
    [
        (f"docs/{NFD}.md", False, (f"docs/{NFC}.md", False)),
        ("docs/", True, ("docs/", True)),
        ("docs/.syncdignore", False, ("docs", True)),
        (".syncdignore", False, ("", True)),
        ("docs/line\nbreak", False, ("docs", True)),
        ("docs/line\nbreak/more\nlines/a.md", False, ("docs", True)),
        ("\udcff", False, ("", True)),
    ],
)
def test_a_hint_for_a_name_without_a_key_or_for_an_ignore_file_observes_its_folder(
    path: str, observed: tuple[str, bool], *, subtree: bool
) -> None:
    assert Rules().path_to_observe(path, subtree=subtree) == observed
