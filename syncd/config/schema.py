"""The schema of the config: every section and key, with its type, default, limits and description. Performs no I/O.

The docstring of target_sections.py describes how the text below a setting is used.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from syncd.config.instance_settings import ELSEWHERE, ConfigSection, InstanceSettingsSection
from syncd.config.target_sections import AISearchSection, TargetSection
from syncd.config.values import (
    AccountId,
    AppriseUrl,
    Duration,
    ListenAddress,
    LocalPath,
    MaxDelete,
    MetricsAddress,
    Number,
    Patterns,
    QuotaText,
    Seconds,
    ShardText,
    Webhook,
    WholeNumber,
)
from syncd.core.errors import ConfigError
from syncd.core.model import WatchSetting
from syncd.core.requests import check_base_url
from syncd.core.rules import INCLUDE_ALL

PERMISSIONS = {
    "ai-search": "Account / AI Search: Edit and Account / AI Search: Run",
    "kv": "Account / Workers KV Storage: Edit",
    "vectorize": "Account / Vectorize: Edit and Account / Workers AI: Read",
}
"""The permissions that a token needs for each type of target."""
MOST_URLS = 20
"""Maximum addresses of notify.urls (our own limit), because each notice goes to all of them at the same time."""


# -- sections


class Cloudflare(ConfigSection):
    """Access to the API of Cloudflare, and its limits."""

    account_id: AccountId
    """The account: 32 hex digits, from the URL of the Cloudflare dashboard. Or set CLOUDFLARE_ACCOUNT_ID.

    Example: "0123456789abcdef0123456789abcdef"
    """
    api_token: SecretStr | None = None
    """The API token itself. A place outside this file is better: CLOUDFLARE_API_TOKEN in the environment, the systemd
    credential `cloudflare_api_token`, or `api_token_file`. Set the mode of a config with a token to 0600: syncd
    warns if others can read it, and refuses it if everybody may write it. The token needs two permissions: Account /
    AI Search: Edit, and for searches Account / AI Search: Run. For KV it needs Account / Workers KV Storage: Edit;
    for Vectorize, Account / Vectorize: Edit and Account / Workers AI: Read.

    Example: "…"
    """
    api_token_file: LocalPath | None = None
    """A file that contains only the API token, mode 0600. It is read again when it changes. syncd refuses a file that
    everybody may write, and a mirror whose folder would upload it.

    Example: "/etc/syncd/token"
    """
    email: str | None = None
    """The e-mail address of the user, for `api_key`. Or set CLOUDFLARE_EMAIL.

    Example: "me@example.com"
    """
    api_key: SecretStr | None = None
    """The global API key of a user, in place of a token. It has far more rights than syncd needs. Or set
    CLOUDFLARE_API_KEY.

    Example: "…"
    """
    base_url: Annotated[str, AfterValidator(check_base_url)] = "https://api.cloudflare.com/client/v4"
    """The URL of the API. Plain http is allowed for loopback only. For `syncd emulate` use
    http://127.0.0.1:8787/client/v4. Or set CLOUDFLARE_API_BASE_URL.
    """
    quota: QuotaText = "1050/300s"
    """Requests in a window of time, over all mirrors: at most 1,050 in any 300 seconds. Cloudflare allows a user 1,200
    in 5 minutes, and the dashboard and other tools share them. Within the quota, requests go as fast as `transfers`
    and `tpslimit` allow. A long first pass leaves a part of it to changes, which go first. The count is kept over
    restarts, and all processes with this state_dir share it. Lower the value if another program or state_dir uses
    the same token. With any value, syncd leaves a tenth of the allowance in Cloudflare's Ratelimit headers, and at
    least 5 requests, to other clients. "" means no quota and is meant for the emulator.

    Unit: requests/time
    """
    tpslimit: Annotated[Number, Field(ge=0, allow_inf_nan=False)] = 100.0
    """Requests per second, besides the quota. Cloudflare allows 200 from one address. Lower it if other programs use
    the same address. 0 means no limit.

    Unit: requests per second
    """
    transfers: Annotated[WholeNumber, Field(ge=1, le=256)] = 8
    """Requests in flight, 1 to 256. This is also the number of files that are held in memory at a time. A higher value
    needs more memory, and helps only if answers are slow.

    Unit: requests
    """
    timeout: Annotated[Duration, Field(gt=0)] = 60.0
    """The time for one try of one request. Large bodies get additional time. Raise it on slow lines."""
    retry_for: Seconds = 120.0
    """The time of trying one request before this pass gives it up and keeps it for later. syncd waits for a Retry-After
    of the remote, and does not count that time. Lower the value for cron jobs that must end soon.
    """


class Web(ConfigSection):
    """Addresses at which `syncd run` serves its page and its metrics."""

    listen: ListenAddress = ""
    """The address at which `syncd run` serves the status page, /healthz, /livez, /readyz and /metrics. "" serves none.
    Only loopback addresses are allowed, because the page requires no login. For access from another machine use ssh
    -L, or a proxy that asks for a password.

    Example: "127.0.0.1:8385"
    """
    metrics_listen: MetricsAddress = ""
    """The address at which `syncd run` serves /metrics, /livez and /readyz alone, for Prometheus and the kubelet. Any
    IP address is allowed, because there is no page, no action and no name of a file. "" serves nothing.

    Example: "0.0.0.0:9385"
    """

    @model_validator(mode="after")
    def _two_addresses(self) -> "Web":
        if self.metrics_listen and self.metrics_listen == self.listen and not self.listen.endswith(":0"):
            raise ValueError("metrics_listen: should be another address than listen, which serves the metrics too")
        return self


class Notify(ConfigSection):
    """Notices of `syncd run` to people. Addresses are secrets, because everybody who knows one can post."""

    webhook: Webhook = SecretStr("")
    """The URL to which `syncd run` posts JSON. Slack, Mattermost and Discord show it. "" posts nothing. The URL must be
    https, or http on loopback. It appears in no log, because everybody who knows it can post to it. To try it:
    `syncd notify --test`.

    Example: "https://hooks.example.org/…"
    """
    urls: Annotated[list[AppriseUrl], Field(max_length=MOST_URLS)] = Field(default=[])
    """Addresses of apprise for the same notices: mail, ntfy, PagerDuty and others. Needs pip install 'syncd[notify]'.
    At most 20, because each notice goes to all of them at a time; they are secrets, too.

    Example: ["mailtos://user:password@example.org"]
    """
    problems: Annotated[WholeNumber, Field(ge=0)] = 10
    """A notice is sent if more items of a mirror than this fail, are refused or skipped, or are stuck in the index.
    Raise it if a mirror has known problems.

    Unit: items
    """


class MirrorConfig(ConfigSection):
    """One folder and one target."""

    path: LocalPath
    """The folder. It must not be "/", the home directory or a directory above it, and must not contain the state
    directory.

    Example: "/srv/docs"
    """
    include: Patterns = Field(default_factory=lambda: list(INCLUDE_ALL))
    """Files to upload, as gitignore-style patterns. A file that no pattern matches is left out.

    Example: ["**/*.md", "manuals/"]
    """
    exclude: Patterns = Field(default=[])
    """Files to leave out, in addition to the built-in list (secrets, dependencies, trash, editor files: `syncd check
    --excludes`). The last match decides. "!pattern" includes files again. A .syncdignore in any directory works like a
    .gitignore. Entries that were uploaded before their file was excluded stay until `syncd reconcile
    --delete-excluded`.

    Example: ["drafts/", "*.tmp"]
    """
    gitignore: bool = True
    """Whether .gitignore files inside the folder leave files out, too. They cannot include files that the lists above
    leave out. Set it to false if the folder is a checkout whose ignored files belong to the mirror.
    """
    links: Literal["skip", "inside"] = "skip"
    """Symbolic links. "inside" treats a link to a regular file inside the folder as that file, which includes the links
    of a mounted Kubernetes ConfigMap. The rules also apply to the target of the link. Directories behind links are
    not walked.
    """
    key_prefix: str = ""
    """Prefix of every key: with "handbook/" the file guide.md has the key handbook/guide.md. Two mirrors with different
    prefixes can share one instance. A change uploads all files again. Entries under the old prefix stay. If the old
    prefix begins with the new one (every prefix begins with ""), they are deleted when their file is gone, or with
    `syncd reconcile --delete-excluded`. Otherwise syncd does not look at them any more.

    Example: "handbook/"
    """
    owner: Annotated[str, StringConstraints(max_length=64)] = ""
    """Owner mark of the entries that this mirror writes, at most 64 characters. Default: the mirror's name and 8 hex
    digits of a hash over this machine and the folder, as `syncd status` shows it. Two machines therefore never share
    a mark. Entries with another mark are left alone (except with `prune = "all"` and --takeover). With an owner in the
    config, the mirror has the same mark on every machine. Set an owner for shards, for containers whose state
    directory is temporary, and before you rename a mirror.

    Example: "docs-1a2b3c4d"
    """
    prune: Literal["owned", "all", "never"] = "owned"
    """Remote entries without a local file that are removed: "owned" (only entries of this mirror), "all" (entries of
    every owner under the prefix), "never".
    """
    max_delete: MaxDelete = "25%"
    """The delete guard refuses the deletes of a plan until a person approves them (`syncd approve`), if there are more
    deletes than this value and more than 10, including the deletes of the last hour. The uploads of the plan are made.
    The value is a number of entries or a percentage. 0 deletes nothing. A moved file does not count as a delete.

    Unit: entries, or %
    """
    delete_after: Seconds = 30.0
    """In `syncd run`: how long a file must have been gone before its entry is deleted. A deploy that removes and writes
    the same pages therefore deletes nothing. The entry under the old name of a moved file waits equally long.
    `syncd reconcile` deletes at once.
    """
    settle: Seconds = 0.5
    """The time without a change before a changed file is uploaded. Raise it if editors or builds write in bursts."""
    settle_max: Seconds = 30.0
    """The time after which a file that keeps changing, such as a log, is uploaded all the same."""
    reconcile_interval: Annotated[Duration, Field(ge=1)] = 3600.0
    """The time between full passes, at least one second. A pass lists the target: one request for 1,000 entries of KV,
    for 1,000 vectors, or for 50 entries of AI Search. AI Search is listed only once in `audit_interval`. Lower it if
    the folder cannot be watched, or if other programs change the target.
    """
    audit_interval: Seconds = 86400.0
    """AI Search only: the time between full passes that list everything. The passes between them read the number of
    items and the newest items, in five requests at most, and list everything if something is unexpected. 0 lists
    everything in each pass.
    """
    watch: WatchSetting = "auto"
    """How syncd notices changes: "auto" (inotify, or polling on network file systems and where watches run out),
    "inotify", "poll", or "off" (full passes only). Choose "poll" for folders that other machines or containers write
    to.
    """
    poll_interval: Annotated[Duration, Field(ge=0.1)] = 30.0
    """The time between two scans of the folder when polling, at least 100 ms. Raise it for large folders on slow disks.
    """
    shard: ShardText = ""
    """With "i/n" this process has only the keys whose stable hash falls into part i of n. i is 0 to n - 1, and n is at
    most 1024. n processes, each with its own state_dir, together do the work of one. "" means all keys. Or set
    SYNCD_DEFAULTS__SHARD=0/4.

    Example: "0/4"
    """
    convert: Patterns = Field(default=[])
    """Files to convert to Markdown, as gitignore-style patterns: Word, PowerPoint, Excel, OpenDocument, RTF, EPUB, PDF,
    mail and Jupyter notebooks (docs/how-to/convert.md). The entry of talk.pptx has the name talk.pptx.md; syncd shows
    it as talk.pptx. It needs the extra `convert`: pip install 'syncd[convert]'. A newer converter converts a file
    again when the file changes, or with `syncd reconcile --full`.

    Example: ["*.pptx", "*.epub", "*.ipynb", "*.doc", "*.rtf", "*.eml"]
    """
    as_text: Patterns = Field(default=[])
    """Files to send as plain text, because the target does not take their type: src/app.ts has an entry with the name
    src/app.ts.txt. syncd shows it as src/app.ts. If there is a file src/app.ts.txt, too, neither is sent: the problem
    key_collision.

    Example: ["*.ts", "*.tsx", "*.kt", "*.adoc", "*.org", "LICENSE", "README"]
    """
    long_names: Literal["reject", "shorten"] = "reject"
    """Treatment of names over `max_key_length`. "reject" reports them as a problem. "shorten" uploads them under a name
    that fits, guides/a-very-long-na~3fa9c1d27b04~-of-the-story.md, and writes the full name, up to 1,024 characters
    (in KV some 900 bytes), into the metadata. syncd shows and pulls the full name. Vectorize takes such names
    unchanged. After a change back to "reject", existing entries stay until their file is gone.
    """
    target: Annotated[TargetSection, Field(discriminator="type")]
    """Where the files go: an AI Search instance, a Workers KV namespace or a Vectorize index."""


class Config(BaseSettings):
    """The whole config, validated. `sources.load` makes it.

    defaults: read with the keys of a mirror, merged into every mirror before validation, and None afterwards.
    """

    model_config = SettingsConfigDict(extra="forbid", case_sensitive=True, hide_input_in_errors=True, defer_build=True)

    state_dir: LocalPath
    """The directory of the state file and its lock, mode 0700. Default: $STATE_DIRECTORY (set by systemd), else
    $XDG_STATE_HOME/syncd, else ~/.local/state/syncd. Set it if a service and a person at the shell share one state.

    Example: "/var/lib/syncd"
    """
    cloudflare: Cloudflare
    """Access to the API of Cloudflare, and its limits."""
    web: Web = Field(default={}, validate_default=True)
    """Addresses at which `syncd run` serves its page and its metrics."""
    notify: Notify = Field(default={}, validate_default=True)
    """Notices of `syncd run` to people: when a mirror halts, when the delete guard refuses a plan, when the target is
    out of reach for long, when many items have problems, when another writer is in the way, and when such trouble is
    over.
    """
    defaults: MirrorConfig | None = None
    """Defaults for all mirrors. Any key of a mirror is allowed. The value of a mirror has priority."""
    mirrors: dict[str, MirrorConfig]
    """One section for each mirror. Commands and status use its name (1-64 of a-z 0-9 - _)."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the sources that `load` passes, strongest first."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return tuple(init_settings()["sources"])

    def with_mirrors(self, names: Collection[str]) -> "Config":
        """Return this config with some of its mirrors only."""
        return self.model_copy(
            update={"mirrors": {name: mirror for name, mirror in self.mirrors.items() if name in names}}
        )

    @model_validator(mode="before")
    @classmethod
    def _merge_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Merge [defaults] into every mirror. A mirror's own value wins."""
        defaults = values.pop("defaults", {})
        if not isinstance(defaults, dict):
            # The schema reports it together with all other faults.
            return values | {"defaults": defaults}
        mirrors = values.get("mirrors")
        if isinstance(mirrors, dict):
            values["mirrors"] = {
                name: _merged(defaults, mirror) if isinstance(mirror, dict) else mirror
                for name, mirror in mirrors.items()
            }
        return values


def _merged(defaults: dict[str, Any], mirror: dict[str, Any]) -> dict[str, Any]:
    """Return the values of [defaults] and of a mirror. Only the target and its settings are merged key by key."""
    merged = {**defaults, **mirror}
    if isinstance(defaults.get("target"), dict) and isinstance(mirror.get("target"), dict):
        merged["target"] = {**defaults["target"], **mirror["target"]}
        settings = [values["target"].get("settings") for values in (defaults, mirror)]
        if all(isinstance(table, dict) for table in settings):
            merged["target"]["settings"] = _merged_deep(*settings)
    return merged


def _merged_deep(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return nested tables merged. A value of `values` replaces the value of `defaults`."""
    merged = {**defaults, **values}
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(defaults.get(name), dict):
            merged[name] = _merged_deep(defaults[name], value)
    return merged


def unknown_key(section: str, key: str, known: Sequence[str]) -> str:
    """Return the message for an unknown key, with the table where the key belongs, or with the nearest known key."""
    import difflib

    close = difflib.get_close_matches(key, known, n=1)
    nearest = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    remedy = _moved(section, key, known) or nearest
    return f"unknown key {f'{section}.' if section else ''}{key}; {remedy}"


def _moved(section: str, key: str, known: Sequence[str]) -> str | None:
    """Return the remedy for a key of AI Search that is in the wrong table, None for any other key."""
    if "settings" in known and key in InstanceSettingsSection.model_fields:
        return f"it is a setting of the instance; write it below [{section}.settings]"
    if not section.endswith(".target.settings"):
        return None
    if key in AISearchSection.model_fields.keys() - ELSEWHERE.keys():
        return f"it is no setting of the instance; write it below [{section.removesuffix('.settings')}]"
    return ELSEWHERE.get(key)


def settings_digest(config: Config, names: Collection[str]) -> str:
    """Return a digest of the settings of some mirrors, or of all if names is empty.

    The digest ignores unknown names. It ignores owners, because a daemon replaces a missing owner by the default.
    """
    # This uses the model of the whole config. pydantic has built this model to read the config, but not the models of
    # its parts.
    dumped = config.model_dump(include={"mirrors"}, exclude={"mirrors": {"__all__": {"owner"}}})["mirrors"]
    settings = {name: mirror for name, mirror in dumped.items() if name in (names or dumped)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


class Account(Protocol):
    """The account and the base URL of the API."""

    @property
    def account_id(self) -> str | None:
        """The id of the account."""

    @property
    def base_url(self) -> str:
        """The base URL of the API."""


def location(account: Account, section: MirrorConfig) -> str:
    """Return the account and target of a mirror, with the base URL if it is not Cloudflare's own."""
    suffix = "" if account.base_url == Cloudflare.model_fields["base_url"].default else f" {account.base_url}"
    return f"{account.account_id} {section.target.spec}{suffix}"


def mirror_config(config: Config, name: str) -> MirrorConfig:
    """Return the section of one mirror. Raises ConfigError, which names the nearest mirror, or all mirrors."""
    try:
        return config.mirrors[name]
    except KeyError:
        import difflib
        from pathlib import Path

        near = difflib.get_close_matches(name, config.mirrors, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there is: {', '.join(config.mirrors)}"
        folder = Path(name).absolute()
        if owners := [mirror for mirror, section in config.mirrors.items() if section.path == folder]:
            meant = f"that is the folder of mirror {owners[0]}"
        elif "/" in name or "." in name:
            meant += f"; for a file: syncd explain {name}"
        raise ConfigError(f"no mirror {name!r} is configured; {meant}") from None


def permissions(config: Config) -> str:
    """Return the permissions that a token needs for the configured mirrors, or for all types if there is no mirror."""
    types = {mirror.target.type for mirror in config.mirrors.values()}
    return "; ".join(text for kind, text in PERMISSIONS.items() if kind in types or not types)
