"""The rules of a mirror: which paths its patterns, the built-in list and its ignore files include or exclude."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from syncd.core.globs import PatternList, lines_of
from syncd.core.keys import directories_above, name_fault, normal
from syncd.core.probe_answers import PROBE_STEM

IGNORE_FILE = ".syncdignore"
INCLUDE_ALL: tuple[str, ...] = ("**/*",)
GIT_IGNORE_FILE = ".gitignore"
DOTTED = "names that begin with .. are never taken"
"""The rule that excludes "..data" and its kind: Kubernetes stores the versions of a mounted ConfigMap there."""
PROBES = f"names that begin with {PROBE_STEM} are kept for syncd check --probe"
RESERVED = ("..*", f"{PROBE_STEM}*")
"""The names of DOTTED and PROBES as patterns, for people. No pattern can include such a name."""


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """The patterns of one ignore file. folder: its directory ("" or "a/b/"). name: its file name."""

    folder: str
    patterns: PatternList
    name: str = IGNORE_FILE

    @classmethod
    def parse(cls, folder: str, text: str, name: str = IGNORE_FILE) -> "IgnoreFile":
        """Parse lines as git does. Raises BadPattern for a line that can match nothing."""
        return cls(folder, PatternList.of(lines_of(text)), name)

    def verdict(self, path: str) -> tuple[bool, str] | None:
        """Return (excluded, rule) for a path below `folder`. None: no line matches the path."""
        if not path.startswith(self.folder) or len(path) == len(self.folder):
            return None
        verdict = self.patterns.verdict(path, len(self.folder))
        return (
            (verdict.positive, f"{self.folder}{self.name} line {verdict.number}: {verdict.pattern}")
            if verdict
            else None
        )


@dataclass(frozen=True)
class Rules:
    """The include and exclude patterns of a mirror.

    gitignore: whether .gitignore files apply. links: whether a link to a file inside the folder is mirrored as a file.
    """

    include: tuple[str, ...] = INCLUDE_ALL
    exclude: tuple[str, ...] = ()
    gitignore: bool = True
    links: bool = False

    @property
    def ignore_files(self) -> tuple[str, ...]:
        """The names of the ignore files that apply."""
        return (GIT_IGNORE_FILE, IGNORE_FILE) if self.gitignore else (IGNORE_FILE,)

    def excluded(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Return the rule that excludes `path` (directories end with "/"), or None.

        The first rule set with a matching pattern decides: the deepest .syncdignore, the .syncdignore files above it,
        `exclude`, the built-in list, the deepest .gitignore, the .gitignore files above it. A file that none of them
        excludes must also match `include`. Does not check the parent directories: see `excluded_deep`.
        """
        start = path.rfind("/", 0, -1) + 1
        if path.startswith("..", start):
            return DOTTED
        if path.startswith(PROBE_STEM, start):
            return PROBES
        is_excluded, rule = self._verdict(path, ignores) or (False, "")
        return rule if is_excluded else self.not_included(path)

    def quick_test(self, ignores: Sequence[IgnoreFile] = ()) -> Callable[[str], bool]:
        """Return a function of a path below the directories of `ignores`. False: no rule excludes the path.

        True: `excluded` must decide.
        """
        if self.include != INCLUDE_ALL:
            return bool
        lists = [(_builtin().may_match, 0), *([(self._exclude.may_match, 0)] if self.exclude else [])]
        lists += [(file.patterns.may_match, len(file.folder)) for file in ignores if file.patterns.patterns]

        def may_be_excluded(path: str) -> bool:
            name = path[path.rfind("/", 0, -1) + 1 :]
            if name.startswith(("..", PROBE_STEM)):
                return True
            for may_match, start in lists:  # noqa: SIM110 - a generator costs more than the test
                if may_match(path, name, start):
                    return True
            return False

        return may_be_excluded

    def excluded_deep(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Return the rule that excludes a path or one of its parent directories, or None."""
        rules = (self.excluded(above, ignores) for above in (*directories_above(path)[1:], path))
        return next(filter(None, rules), None)

    def forbids(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Return the rule that forbids a link through a path, whether the path is a file or a directory.

        `include` and the reserved names (DOTTED, PROBES) do not forbid it: a link may lead through a path that is not
        mirrored.
        """
        for candidate in (*directories_above(path)[1:], path, f"{path}/"):
            is_excluded, rule = self._verdict(candidate, ignores) or (False, "")
            if is_excluded:
                return rule
        return None

    def included_by(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Return the pattern that includes a file which no rule excludes. None: no pattern matches the file."""
        if verdict := self._verdict(path, ignores):
            return verdict[1]
        return self._included_by(path) if self.include != INCLUDE_ALL else None

    def path_to_observe(self, path: str, *, subtree: bool) -> tuple[str, bool]:
        """Return the path in NFC to observe for a hint, and whether to observe everything below it.

        path, subtree: of the hint. A change of an ignore file concerns its whole directory.
        """
        if name_fault(path):
            # Such a name has no key. A walk of its directory reports the problem.
            while path and name_fault(path):
                path = path.rpartition("/")[0]
            subtree = True
        elif path.rpartition("/")[2] in self.ignore_files:
            path, subtree = path.rpartition("/")[0], True
        return normal(path), subtree

    def _verdict(self, path: str, ignores: Sequence[IgnoreFile]) -> tuple[bool, str] | None:
        """Return (excluded, rule) of the strongest rule set with a pattern that matches a path."""
        ours = (file.verdict(path) for file in reversed(ignores) if file.name == IGNORE_FILE)
        if verdict := next(filter(None, ours), None):
            return verdict
        if match := self._exclude.verdict(path):
            return match.positive, f"exclude: {match.pattern}"
        # A "!" of the built-in list, such as "!.env*.example", does not override other rule sets.
        if (match := _builtin().verdict(path)) and match.positive:
            return True, f"built-in exclude: {BUILTIN_EXCLUDES[match.number - 1]}"
        git = (file.verdict(path) for file in reversed(ignores) if file.name != IGNORE_FILE)
        return next(filter(None, git), None)

    def not_included(self, path: str) -> str | None:
        """Return the reason why `include` does not match a path. None: it matches, or the path is a directory."""
        if path.endswith("/") or self.include == INCLUDE_ALL or self._included_by(path):
            return None
        return "include: no pattern takes it"

    def _included_by(self, path: str) -> str | None:
        """Return the last include pattern that matches a file, else the one of its nearest parent directory."""
        verdict = self._include.nearest(path)
        return f"include: {verdict.pattern}" if verdict and verdict.positive else None

    @cached_property
    def _exclude(self) -> PatternList:
        return PatternList.of(enumerate(self.exclude, 1))

    @cached_property
    def _include(self) -> PatternList:
        return PatternList.of(enumerate(self.include, 1))


# Built at first use: commands that only read the config match no path.
@cache
def _builtin() -> PatternList:
    return PatternList.of(enumerate(BUILTIN_EXCLUDES, 1), ignore_case=True)


# -- the built-in excludes: secrets and files of tools that must not be uploaded
#
# The patterns ignore case. A "!" overrides patterns of this list only. The list names data formats only, because a page
# about secrets (secrets.md, passwords.html) is an ordinary document. docs/reference/excludes.md explains the list.

GROUPS: dict[str, tuple[str, ...]] = {
    "secrets": (
        # environment variables, except for templates
        "*.env", ".env", ".env.*", ".env-*", ".env_*", "*.env.local", "*.env.old", "*.env.save", ".envrc", ".dev.vars",
        ".dev.vars.*", "!.env*.example", "!.env*.sample", "!.env*.template", "!.env*.dist", "!.env[-_.]example",
        "!.env[-_.]sample", "!.env[-_.]template", "!*example.env", "!*sample.env", "!*template.env",
        "!.dev.vars.example",
        # logins of tools and services
        ".netrc", "_netrc", ".npmrc", ".pypirc", ".git-credentials", ".pgpass", "pgpass.conf", ".my.cnf",
        ".mylogin.cnf", ".htpasswd", ".vault-token", ".s3cfg", ".boto", ".passwd-s3fs", ".databrickscfg", ".msmtprc",
        ".fetchmailrc", ".ftpconfig", "sftp-config.json", "rclone.conf", ".terraformrc", "terraform.rc", "kaggle.json",
        "wp-config.php", "ngrok.yml", "credentials.tfrc.json", ".vault[-_]pass*", ".token", ".aws/", ".azure/", ".oci/",
        ".aliyun/", ".kube/", "kubeconfig", "!kubeconfig/", "kubeconfig.y*ml", "*.kubeconfig", "**/.docker/config.json",
        ".dockercfg", ".dockerconfigjson", "**/gcloud/credentials.db", "**/gcloud/legacy_credentials/",
        "**/gcloud/access_tokens.db", "**/.config/gh/", "**/.config/glab-cli/", "**/.config/hub", "**/.config/doctl/",
        "**/.config/op/", "**/.config/git/credentials", "**/.gem/credentials", "**/.composer/auth.json",
        "**/.codex/auth.json", "**/.cache/huggingface/token", "**/.huggingface/token", ".chef/", ".wrangler/",
        ".cloudflared/", ".fly/", ".snowsql/", "**/.dbt/profiles.yml",
        # credential files
        "credentials", "!credentials/", "*credentials.json", "*credentials.yaml", "*credentials.yml",
        "*credentials.toml", "*credentials.ini", "*credentials.xml", "*credentials.properties", "*credentials.csv",
        "*credentials.db", "client_secret*.json", "service-account*.json", "service_account*.json",
        "serviceaccount*.json", "*service-account.json", "*service_account.json", "*serviceaccount.json",
        "*service-account-key.json", "*serviceaccountkey.json", "*-firebase-adminsdk-*.json", "gha-creds-*.json",
        "*accesskeys.csv", "rootkey.csv", "secret.json", "secret.yaml", "secret.yml", "secret.toml", "secret.ini",
        "secret.properties", "*secrets.json", "*secrets.yaml", "*secrets.yml", "*secrets.toml", "*secrets.ini",
        "*secrets.xml", "*secrets.properties", "secrets.*.json", "secrets.*.yaml", "secrets.*.yml", "secrets.*.toml",
        ".secret", ".secrets", ".secrets.*", "local.settings.json", "password.csv", "passwords.csv", "password.json",
        "passwords.json", "passwords.yaml", "passwords.yml", "*.tfstate", "*.tfstate.backup", "*.tfvars",
        "*.tfvars.json",
        # keys and key stores
        ".ssh/", ".gnupg/", ".gpg/", "*.pem", "*.key", "*.p8", "*.pk8", "*.p12", "*.pfx", "*.pkcs12", "*.ppk", "*.pvk",
        "*.jks", "*.keystore", "*.truststore", "*.keytab", "*.ovpn", "*.agekey", "age-key*.txt", "**/age/keys.txt",
        "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "ssh_host_*_key", "secring.*", "*.kdb", "*.kdbx", "*.psafe3",
        "*.1pif", "*.1pux", "*.agilekeychain", "*.opvault", "*.keychain", "*.keychain-db", "wallet.dat", "logins.json",
        "key[34].db", "cookies.sqlite", "**/etc/shadow", "**/etc/shadow-", "**/etc/gshadow", "**/etc/gshadow-",
        # input histories
        ".*_history", ".histfile", ".rhistory", ".lesshst", ".viminfo",
        # our own config, which may hold a token
        "syncd.toml",
    ),
    "version control and dependencies": (
        ".git", ".hg/", ".svn/", ".jj/", ".bzr/", ".sl/", ".pijul/", "_darcs/", ".fslckout", "_fossil_",
        "**/cvs/entries", "**/cvs/repository", "**/cvs/root", "node_modules/", "bower_components/", "jspm_packages/",
        ".npm/", ".pnpm-store/", ".yarn/", ".venv/", "**/venv/bin/", "**/venv/lib/", "**/venv/lib64",
        "**/venv/scripts/", "pyvenv.cfg", "site-packages/", "__pycache__/", "*.py[co]", "*.egg-info/", ".eggs/",
        ".tox/", ".nox/", ".bundle/", "**/vendor/bundle/", ".gradle/", ".m2/", ".cargo/", ".terraform/", ".direnv/",
        ".dart_tool/", ".stack-work/",
    ),
    "other tools' files and trash": (
        # trash and snapshots
        ".trash/", ".trashes", ".trash-*/", ".stversions/", "$recycle.bin/", "system volume information/",
        "\\#recycle/", "@recycle/", "lost+found/", ".snapshot/", ".snapshots/", "\\#snapshot/", "@recently-snapshot/",
        ".zfs/", ".fuse_hidden*", ".nfs[0-9a-f]*",
        # desktops
        ".ds_store", "._*", ".appledouble/", ".appledb/", ".appledesktop/", ".apdisk", ".lsoverride", ".localized",
        ".spotlight-v100/", ".fseventsd/", ".temporaryitems/", ".documentrevisions-v100/", "__macosx/", ".*.icloud",
        "thumbs.db", "ehthumbs*.db", "desktop.ini", ".directory", "@eadir/", ".@__thumb/",
        # sync tools
        ".stfolder", ".stignore", ".syncthing.*.tmp", "~syncthing~*.tmp", ".dropbox", ".dropbox.attr",
        ".dropbox.cache/", ".tmp.drivedownload/", ".tmp.driveupload/", ".849c9593-d756-4e56-8d6e-42412f2a707b",
        ".csync_journal.db*", "._sync_*.db*", ".sync_*.db*", ".owncloudsync.log*", ".nextcloudsync.log*", ".sync/",
        "*.partial", "*.crdownload",
        # notes
        ".obsidian/",
        # output of builds and tests
        ".cache/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".hypothesis/", ".ipynb_checkpoints/",
        ".sass-cache/", ".parcel-cache/", ".turbo/", ".next/", ".nuxt/", ".svelte-kit/", ".netlify/", ".vercel/",
        IGNORE_FILE,
    ),
    "editors' files": (
        "*.swp", "*.swo", "*.swx", "4913", "*~", ".#*", "\\#*#", "~$*", ".~lock.*#", "*.bak", "*.backup", "*.orig",
        "*.rej", ".idea/", ".vs/", ".vscode/", ".netrwhist", ".rdata", "___jb_tmp___", "___jb_old___",
    ),
}  # fmt: skip

BUILTIN_EXCLUDES: tuple[str, ...] = tuple(pattern for group in GROUPS.values() for pattern in group)
