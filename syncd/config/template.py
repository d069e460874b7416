"""The commented config that `init` writes."""

import json
import re
from string import Template

_CONFIG = Template("""# syncd: keeps a folder in step, one way, with Cloudflare. All keys: config.example.toml
# state_dir = "/var/lib/syncd"        # default: $$STATE_DIRECTORY, else ~/.local/state/syncd

[cloudflare]
account_id = "$account"   # 32 hex digits, in the dashboard's address
# The token: export CLOUDFLARE_API_TOKEN=…, or the file that holds it (permission: Account / AI Search: Edit,
# Account / Workers KV Storage: Edit, or Account / Vectorize: Edit with Account / Workers AI: Read).
# api_token_file = "/etc/syncd/token"
# tpslimit = 3.5                      # requests per second; Cloudflare allows 4 on average for a whole account

[mirrors.$name]
path = $path
# include = ["**/*"]                  # gitignore-style patterns
# exclude = ["drafts/", "*.tmp"]      # in addition to the built-in list (syncd check --excludes) and .syncdignore files
# gitignore = true                    # .gitignore files in the folder apply, too
# links = "skip"                      # skip | inside: a link to a file inside the folder counts as that file
# long_names = "reject"               # or "shorten": names over 128 characters get a shorter name
# max_delete = "25%"                  # a plan that deletes more (and more than 10) is refused

[mirrors.$name.target]
$target""")

_AI_SEARCH = Template("""type = "ai-search"
namespace = "$namespace"
instance = "$instance"
create = true                         # create the instance if it does not exist
""")

_KV = Template("""type = "kv"
$key = $value
create = $create                         # create the namespace if no namespace has this title
# stale_ttl = 86400                   # seconds that an entry stays after its file is gone; default: 0
""")


_VECTORIZE = Template("""type = "vectorize"
index = "$index"
create = true                         # create the index if it does not exist
model = "@cf/baai/bge-base-en-v1.5"   # a model of Workers AI; a change of the model embeds all files again
# chunk_size = 1000                   # characters of one piece of text
# chunk_overlap = 150                 # characters that a piece has in common with the one before
""")


def ai_search_target(namespace: str, instance: str) -> str:
    """Return the text of an AI Search target's section."""
    return _AI_SEARCH.substitute(namespace=namespace, instance=instance)


def kv_target(title_or_id: str) -> str:
    """Return the text of a Workers KV target's section. A text of 32 hex digits is an id."""
    by_id = re.fullmatch(r"[0-9a-f]{32}", title_or_id) is not None
    key = "namespace_id" if by_id else "namespace_title"
    return _KV.substitute(key=key, value=_quoted(title_or_id), create="false" if by_id else "true ")


def vectorize_target(index: str) -> str:
    """Return the text of a Vectorize target's section."""
    return _VECTORIZE.substitute(index=index)


def config_text(*, name: str, path: str, target: str, account: str) -> str:
    """Return the text of a syncd.toml for one mirror. target: the lines of its target's section."""
    return _CONFIG.substitute(name=name, path=_quoted(path), target=target, account=account)


def _quoted(text: str) -> str:
    """Return a TOML basic string. Every JSON string is one."""
    return json.dumps(text, ensure_ascii=False)
