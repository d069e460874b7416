"""Routes of the service that the stand-in does not implement. It refuses them with an explanation and status 501."""

from starlette.responses import Response

from syncd.emulator.requests import ApiError, Call, Endpoint

_AI = "/accounts/{account_id}/ai"
_ROUTES = (
    ("GET", "/authors/search"),
    ("GET", "/finetunes"),
    ("POST", "/finetunes"),
    ("GET", "/finetunes/public"),
    ("POST", "/finetunes/{finetune_id}/finetune-assets"),
    ("GET", "/models/search"),
    ("GET", "/models/schema"),
    ("GET", "/tasks/search"),
    ("GET", "/tomarkdown/supported"),
    ("POST", "/tomarkdown"),
)
"""All routes of Workers AI except the run of a model."""


async def _refuse(call: Call) -> Response:
    await call.request.body()
    raise ApiError(
        501, 10501, "The stand-in does not implement this route; of Workers AI it runs embedding models only"
    )


ENDPOINTS = [Endpoint(method, _AI + path, _refuse) for method, path in _ROUTES]
