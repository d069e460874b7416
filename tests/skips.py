"""Skips for tests that need a tool of the machine. The summary shows the reason once."""

from _pytest.outcomes import Skipped


class NotHere(Skipped):
    """A tool is not available, with the reason. The summary shows all skipped tests in one line."""

    __module__ = "builtins"

    @property
    def _use_item_location(self) -> bool:
        """Return false, because pytest would otherwise print a line for each skipped test."""
        return False

    @_use_item_location.setter
    def _use_item_location(self, wanted: bool) -> None:
        del wanted
