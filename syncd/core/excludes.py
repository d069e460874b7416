"""The built-in excludes: secrets and files of tools that must not be uploaded. PURE.

The patterns ignore case. A "!" overrides patterns of this list only. The list names data formats only, because a page
about secrets (secrets.md, passwords.html) is an ordinary document. docs/excludes.md describes the list for users.
"""

IGNORE_FILE = ".syncdignore"

SECRETS: tuple[str, ...] = (
    # environment variables, except for templates
    "*.env", ".env", ".env.*", ".env-*", ".env_*", "*.env.local", "*.env.old", "*.env.save", ".envrc", ".dev.vars",
    ".dev.vars.*", "!.env*.example", "!.env*.sample", "!.env*.template", "!.env*.dist", "!.env[-_.]example",
    "!.env[-_.]sample", "!.env[-_.]template", "!*example.env", "!*sample.env", "!*template.env",
    "!.dev.vars.example",
    # logins of tools and services
    ".netrc", "_netrc", ".npmrc", ".pypirc", ".git-credentials", ".pgpass", "pgpass.conf", ".my.cnf", ".mylogin.cnf",
    ".htpasswd", ".vault-token", ".s3cfg", ".boto", ".passwd-s3fs", ".databrickscfg", ".msmtprc", ".fetchmailrc",
    ".ftpconfig", "sftp-config.json", "rclone.conf", ".terraformrc", "terraform.rc", "kaggle.json", "wp-config.php",
    "ngrok.yml", "credentials.tfrc.json", ".vault[-_]pass*", ".token", ".aws/", ".azure/", ".oci/", ".aliyun/",
    ".kube/", "kubeconfig", "!kubeconfig/", "kubeconfig.y*ml", "*.kubeconfig", "**/.docker/config.json",
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
)  # fmt: skip

VERSION_CONTROL_AND_DEPENDENCIES: tuple[str, ...] = (
    ".git", ".hg/", ".svn/", ".jj/", ".bzr/", ".sl/", ".pijul/", "_darcs/", ".fslckout", "_fossil_",
    "**/cvs/entries", "**/cvs/repository", "**/cvs/root", "node_modules/", "bower_components/", "jspm_packages/",
    ".npm/", ".pnpm-store/", ".yarn/", ".venv/", "**/venv/bin/", "**/venv/lib/", "**/venv/lib64", "**/venv/scripts/",
    "pyvenv.cfg", "site-packages/", "__pycache__/", "*.py[co]", "*.egg-info/", ".eggs/", ".tox/", ".nox/",
    ".bundle/", "**/vendor/bundle/", ".gradle/", ".m2/", ".cargo/", ".terraform/", ".direnv/", ".dart_tool/",
    ".stack-work/",
)  # fmt: skip

TOOLS_AND_TRASH: tuple[str, ...] = (
    # trash and snapshots
    ".trash/", ".trashes", ".trash-*/", ".stversions/", "$recycle.bin/", "system volume information/", "\\#recycle/",
    "@recycle/", "lost+found/", ".snapshot/", ".snapshots/", "\\#snapshot/", "@recently-snapshot/", ".zfs/",
    ".fuse_hidden*", ".nfs[0-9a-f]*",
    # desktops
    ".ds_store", "._*", ".appledouble/", ".appledb/", ".appledesktop/", ".apdisk", ".lsoverride", ".localized",
    ".spotlight-v100/", ".fseventsd/", ".temporaryitems/", ".documentrevisions-v100/", "__macosx/", ".*.icloud",
    "thumbs.db", "ehthumbs*.db", "desktop.ini", ".directory", "@eadir/", ".@__thumb/",
    # sync tools
    ".stfolder", ".stignore", ".syncthing.*.tmp", "~syncthing~*.tmp", ".dropbox", ".dropbox.attr", ".dropbox.cache/",
    ".tmp.drivedownload/", ".tmp.driveupload/", ".849c9593-d756-4e56-8d6e-42412f2a707b", ".csync_journal.db*",
    "._sync_*.db*", ".sync_*.db*", ".owncloudsync.log*", ".nextcloudsync.log*", ".sync/", "*.partial",
    "*.crdownload",
    # notes
    ".obsidian/",
    # output of builds and tests
    ".cache/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".hypothesis/", ".ipynb_checkpoints/",
    ".sass-cache/", ".parcel-cache/", ".turbo/", ".next/", ".nuxt/", ".svelte-kit/", ".netlify/", ".vercel/",
    IGNORE_FILE,
)  # fmt: skip

EDITORS: tuple[str, ...] = (
    "*.swp", "*.swo", "*.swx", "4913", "*~", ".#*", "\\#*#", "~$*", ".~lock.*#", "*.bak", "*.backup", "*.orig",
    "*.rej", ".idea/", ".vs/", ".vscode/", ".netrwhist", ".rdata", "___jb_tmp___", "___jb_old___",
)  # fmt: skip

GROUPS: dict[str, tuple[str, ...]] = {
    "secrets": SECRETS,
    "version control and dependencies": VERSION_CONTROL_AND_DEPENDENCIES,
    "other tools' files and trash": TOOLS_AND_TRASH,
    "editors' files": EDITORS,
}

BUILTIN_EXCLUDES: tuple[str, ...] = tuple(pattern for group in GROUPS.values() for pattern in group)
