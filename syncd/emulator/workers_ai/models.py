"""The models, and what each of them takes. Source: the schemas and properties in the model catalogue. PURE."""

import re
from typing import NamedTuple

_TOKEN = re.compile(r"[a-z0-9]{1,6}|[^\sa-z0-9]")
_ENDS = 2
"""Every text is put between two tokens of the model's own."""


class Model(NamedTuple):
    """dimensions: values of a vector. context: tokens of one text, at most. texts: of one request. names: the fields of
    the request that may hold the texts, of which one is there. poolings: what `pooling` may be, the default first;
    empty for a model without one, whose answer says none. batch: tokens of one request.
    """

    dimensions: int
    context: int
    texts: int = 100
    names: tuple[str, ...] = ("text",)
    poolings: tuple[str, ...] = ("mean", "cls")
    batch: int | None = None


MODELS = {
    "@cf/baai/bge-small-en-v1.5": Model(384, 512),
    "@cf/baai/bge-base-en-v1.5": Model(768, 512),
    "@cf/baai/bge-large-en-v1.5": Model(1024, 512),
    # 60,000 is "context_window" in the catalogue, and users met it as the sum over a request.
    "@cf/baai/bge-m3": Model(1024, 8192, poolings=("cls",), batch=60_000),
    "@cf/google/embeddinggemma-300m": Model(768, 2048, poolings=()),
    "@cf/qwen/qwen3-embedding-0.6b": Model(1024, 8192, texts=32, names=("text", "documents", "queries"), poolings=()),
}


def count_tokens(text: str) -> int:
    """An estimate: up to six letters or digits of a word are a token, any other visible character is one by itself.

    English prose has about a token for every four and a half characters, tables and code have more.
    """
    return len(_TOKEN.findall(text.lower())) + _ENDS
