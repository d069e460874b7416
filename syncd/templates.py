"""The commented config that `init` writes."""

import json
from string import Template

_CONFIG = Template("""# syncd: keeps a folder in step, one way, with Cloudflare. All keys: config.example.toml
# state_dir = "/var/lib/syncd"        # default: $$STATE_DIRECTORY, else ~/.local/state/syncd

[cloudflare]
account_id = "$account"   # 32 hex digits, in the dashboard's address
# The token: export CLOUDFLARE_API_TOKEN=…, or the file that holds it (permission: Account / AI Search: Edit).
# api_token_file = "/etc/syncd/token"
# tpslimit = 3.5                      # requests per second; Cloudflare allows 4 on average for a whole account

[mirrors.$name]
path = $path
# include = ["**/*"]                  # gitignore-style patterns
# exclude = ["drafts/", "*.tmp"]      # added to the built-in list; a .syncdignore file works too
# max_delete = "25%"                  # a plan that deletes more (and more than 10) is refused

[mirrors.$name.target]
type = "ai-search"
namespace = "$namespace"
instance = "$instance"
create = true                         # make the instance if it is not there
""")


def config_text(*, name: str, path: str, namespace: str, instance: str, account: str) -> str:
    """Return the text of a syncd.toml for one mirror."""
    return _CONFIG.substitute(name=name, path=_quoted(path), namespace=namespace, instance=instance, account=account)


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's string syntax is a part of it."""
    return json.dumps(text, ensure_ascii=False)
