"""What people are told: decides which states of the mirrors become a notice, once for each state. Makes no I/O."""

import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from syncd.core.keys import shown
from syncd.core.plain_text import printable, utc_time

Topic = Literal["halted", "refused", "degraded", "problems", "foreign", "budget", "test"]
"""halted, refused (by the delete guard), degraded for long: the states of a mirror. problems: items that fail, are
skipped or are stuck in the index. foreign: another writer's entries. budget: requests wait for the quota for long."""

OF_THE_STATE: frozenset[Topic] = frozenset({"halted", "refused", "degraded"})
"""Topics that end together, when the mirror is in step again."""
TEXT_LIMIT = 1500
"""Characters of a text. Discord takes 2,000 (Discord API: execute webhook), the other services more."""
_PINGS = str.maketrans({"@": "@\u200b", "<": "\u2039", ">": "\u203a"})
"""Characters with which chats begin a mention or a link. A name of a file must not call everybody."""

Conditions = Mapping[Topic, str | None]
"""Topic -> why it is true at present, None if it is not. A topic that is missing stays as it was."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message. mirror: None for all mirrors. topic: None for a recovery. at: seconds since the epoch."""

    mirror: str | None
    state: str
    topic: Topic | None
    detail: str | None
    at: float

    @property
    def title(self) -> str:
        """One line that says what has happened where."""
        where = f"mirror {self.mirror}" if self.mirror else "syncd"
        return f"{where} on {socket.gethostname()}: {_TITLES.get(self.state, self.state)}"

    @property
    def text(self) -> str:
        """The whole message for people, without characters that chats read as commands."""
        text = f"{self.title}. {self.detail}" if self.detail else self.title
        return text.translate(_PINGS)[:TEXT_LIMIT]

    def body(self) -> dict[str, object]:
        """Return the JSON object of a webhook. Slack and Mattermost show `text`, Discord shows `content`."""
        fields = {"mirror": self.mirror, "state": self.state, "kind": self.topic, "detail": self.detail}
        return {
            **fields,
            "time": utc_time(self.at),
            "text": self.text,
            "content": self.text,
            "allowed_mentions": {"parse": []},
        }


_TITLES = {
    "halted": "halted, it needs a person",
    "refused": "deletes are refused, uploads go on",
    "degraded": "it does not reach its target",
    "problems": "many items have problems",
    "foreign": "another writer's entries are in the way",
    "budget": "requests wait for the quota",
    "recovered": "in order again",
    "test": "this is a test notice",
}


class NoticeBoard:
    """Remembers which topics of which mirrors were told, so that no state is told twice."""

    def __init__(self) -> None:
        self._raised: dict[str | None, set[Topic]] = {}

    def knows(self, mirror: str | None) -> bool:
        """Return whether the topics of a mirror were restored or told."""
        return mirror in self._raised

    def restore(self, mirror: str | None, topics: Collection[Topic]) -> None:
        """Take over what an earlier process has told."""
        self._raised[mirror] = set(topics)

    def raised(self, mirror: str | None) -> list[Topic]:
        """Return the topics of a mirror that were told and are not over."""
        return sorted(self._raised.get(mirror, ()))

    def update(self, mirror: str | None, conditions: Conditions, now: float) -> list[Notice]:
        """Return the notices that follow from the present conditions of a mirror. now: seconds since the epoch."""
        raised = self._raised.setdefault(mirror, set())
        notices = []
        for topic, why in conditions.items():
            if why is not None and topic not in raised:
                raised.add(topic)
                # A program that does not know the topic handles a refusal as a halt.
                state = "halted" if topic == "refused" else topic
                notices.append(Notice(mirror, state, topic, printable(shown(why)), now))
        over = {topic for topic, why in conditions.items() if why is None and topic in raised}
        raised -= over
        if over & OF_THE_STATE:
            notices.append(Notice(mirror, "recovered", None, None, now))
        notices += [Notice(mirror, "recovered", topic, _OVER[topic], now) for topic in sorted(over - OF_THE_STATE)]
        return notices


_OVER: Mapping[Topic, str] = {
    "problems": "Few items have problems now.",
    "foreign": "No entry of another writer is in the way now.",
    "budget": "Requests do not wait for the quota now.",
    "test": "",
}
