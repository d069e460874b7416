import re
from pathlib import Path

import pytest

from syncd.core.rules import BUILTIN_EXCLUDES, GROUPS, IgnoreFile, Rules

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
"""
IN = """
.env.example .env.sample .env.template .env.production.example example.env sample.env a/template.env my-example.env
env.md environment.md docs/secrets.md credentials.md guides/passwords.html passwords.txt secrets.rst docs/credentials/
docs/secrets/ tokens.json key.md keys.txt public.crt a.asc shadow.md docs/shadow config.json docker/config.json venv/
venv.md docs/venv/index.md cvs/ cvs/anna.md .gitignore .github/ .well-known/ vendor/ build/ dist/ lib/ bin/
kubeconfig/ kubeconfig.md a.tmp a.log a.part target/ .docker/ trash/ history.md a.tfvars.example npmrc.md .htaccess
"""


@pytest.mark.parametrize("path", OUT.split())
def test_secrets_dependencies_and_temporary_files_are_excluded(path: str) -> None:
    rule = Rules().excluded_deep(path)
    assert rule is not None
    assert rule.startswith("built-in exclude: ")
    assert Rules().doubt()(path) or any(Rules().doubt()(path[: at + 1]) for at, c in enumerate(path) if c == "/")


@pytest.mark.parametrize("path", IN.split())
def test_documents_and_templates_are_included(path: str) -> None:
    assert Rules().excluded_deep(path) is None


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
