"""Lines as journald wants them: a priority in front, and neither colours nor a time, for it notes that itself."""

import json
import os
import re
from collections.abc import Mapping
from typing import TextIO

from structlog.typing import EventDict, WrappedLogger

PRIORITIES = {"critical": 2, "exception": 3, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""Of syslog(3); sd-daemon(3) says how they stand before a line."""
_PLAIN = re.compile(r"[^\s\"'=\\]+")


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a stream ends in the journal: systemd names its device and inode (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def journal_lines(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Render an event as `<6>put.done mirror=docs key=a.md`; each line of a traceback has the priority, too."""
    del logger
    level = event.pop("level", method)
    mark = f"<{PRIORITIES.get(level, 6)}>"
    exception = event.pop("exception", None)
    name = event.pop("event", "")
    fields = [f"{key}={_value(value)}" for key, value in event.items() if value is not None]
    lines = [" ".join((str(name), *fields)), *(exception.split("\n") if exception else ())]
    return "\n".join(mark + line for line in lines)


def _value(value: object) -> str:
    """A value whose end can be seen: what is no plain word is quoted."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=True, default=repr)
