"""Makes the links of the README absolute for the package index."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"(?<=\]\()(?!#|[a-z][a-z0-9+.-]*:)([^)\s]+)")
"""The target of a Markdown link or picture that is a path in the repository."""
PICTURE = re.compile(r"\.(gif|jpe?g|png|svg|webp)$")


class Metadata(MetadataHookInterface):
    """The hook that hatchling calls for the dynamic field `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Write `readme`. Its links lead to the files of this version."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        text = absolute(text, metadata["urls"]["Source"], f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def absolute(text: str, repository: str, tag: str) -> str:
    """Return the text with links to the files of one release in place of relative links."""

    def address(link: re.Match[str]) -> str:
        kind = "raw" if PICTURE.search(link[0]) else "blob"
        return f"{repository}/{kind}/{tag}/{link[0]}"

    return RELATIVE.sub(address, text)
