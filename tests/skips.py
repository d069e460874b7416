"""For tests that need something of the machine: without it all are skipped, for one reason that is told once."""

from _pytest.outcomes import Skipped


class NotHere(Skipped):
    """It cannot run on this machine, and why. All tests that wanted it are skipped, in one line of the summary."""

    __module__ = "builtins"

    @property
    def _use_item_location(self) -> bool:
        """False: pytest would name the place of each test that a fixture skips, on a line of its own."""
        return False

    @_use_item_location.setter
    def _use_item_location(self, wanted: bool) -> None:
        del wanted
