"""The permissions of a token for an instance: to read and write it (Edit), and to search it (Run).

The documentation names both permissions, and no route tells which of them a token has ("AI Search: REST API, create an
API token"). The answer to a search without Run is unknown. A search that is refused while the instance can be read
therefore means that Run is missing.
"""

from syncd.cloudflare.ai_search import EDIT, RUN, AISearch
from syncd.cloudflare.instance_models import Instance
from syncd.core.errors import AuthHalt, SyncdError, TargetMissing
from syncd.targets.base import Advice

_MANAGE = "in the dashboard, give the token the permission"


async def readable_instance(api: AISearch) -> Instance:
    """Return the instance. Raises TargetMissing without one, AuthHalt that names the missing permission."""
    try:
        return await api.read_instance()
    except AuthHalt as refusal:
        if await _may_search(api):
            raise AuthHalt(f"the token has {RUN} but not {EDIT}: {_MANAGE} {EDIT}: {refusal}") from refusal
        raise AuthHalt(f"{refusal}; it needs {EDIT}, and for searches {RUN}") from refusal


async def _may_search(api: AISearch) -> bool:
    """Return whether one search passes the check of the token. Most other failures prove nothing."""
    try:
        await api.try_search()
    except TargetMissing:
        return True
    except SyncdError:
        return False
    return True


async def search_advice(api: AISearch) -> Advice:
    """Make one search of an instance that can be read. Return advice about the permissions from its answer."""
    try:
        await api.try_search()
    except AuthHalt as refusal:
        message = f"{RUN} is missing: the mirror works, but search and verify --query do not: {refusal}"
        return Advice(message, f"{_MANAGE} {RUN}, beside {EDIT}", "permissions")
    except SyncdError as failure:
        remedy = "search and verify --query fail like this; run syncd check again later"
        return Advice(f"one search failed: {failure}", remedy, "search")
    return Advice(f"the token reads the instance ({EDIT}) and searches it ({RUN})", None, "permissions")
