"""The documents that agents read, converted to Markdown as the mirror sends them."""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from syncd.core.model import Content
from syncd.core.problems import Limits

KEPT = 4
"""Converted documents that are kept, because an agent reads one in several parts (our own limit)."""
_AT_A_TIME = 2


class Documents:
    """Converts documents. Threads of its own wait for conversions, so that no other tool waits for them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="syncd-document")
        self._kept: OrderedDict[tuple[str, str], Content] = OrderedDict()

    async def converted(self, key: str, source: Content, limits: Limits) -> Content:
        """Return a file as the mirror sends it. Raises Park or Retry if it cannot be converted."""
        # Imported late, because few folders contain documents.
        from syncd.text.conversion import converted

        mark = key, source.checksum
        content = self._kept.get(mark)
        if content is None:
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(self._threads, converted, key, source, limits)
        self._kept[mark] = content
        self._kept.move_to_end(mark)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return content

    def close(self) -> None:
        """End all conversions."""
        from syncd.text.conversion import close

        self._threads.shutdown(wait=False, cancel_futures=True)
        close()
