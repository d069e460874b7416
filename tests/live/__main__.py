"""`python -m tests.live`: runs the contract of the targets on the account that CLOUDFLARE_* names, and writes a report.

It makes scratch stores whose names begin with syncd-live-, and removes them. At most 300 requests. The report has
neither the id of the account nor a secret. Exits with 0 if everything passed, 1 if not, 2 without an account.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from syncd.cloudflare.ai_search import AISearch
from syncd.core.errors import ConfigError, SyncdError
from tests.live.lab import LIMIT, Account, Lab, open_lab, remove_leftovers
from tests.live.report import MESSAGE, Case, LiveReport

SUITE = Path(__file__).with_name("suite.py")
CHOSEN = {
    "TestAISearch": (
        "test_the_check_of_an_existing_target_succeeds",
        "test_an_empty_target_lists_nothing",
        "test_the_newest_entries_are_listed_first_with_their_total",
        "test_a_new_entry_is_listed_with_owner_checksum_and_ref",
        "test_the_reported_version_and_size_equal_the_listed_ones",
        "test_a_put_over_an_entry_leaves_only_the_new_content",
        "test_a_put_replaces_an_entry_of_this_owner_that_the_plan_did_not_know",
        "test_the_same_content_put_twice_is_one_entry",
        "test_a_second_delete_of_an_entry_succeeds",
        "test_a_key_can_be_put_again_after_its_delete",
        "test_an_entry_is_confirmed_by_key_and_by_ref",
        "test_the_checksum_is_of_the_stored_content_for_any_local_content[two]",
        "test_keys_that_differ_in_case_or_in_escapes_are_different",
        "test_statuses_are_returned_for_the_requested_entries",
        "test_a_search_finds_entries_within_its_limit",
        "test_the_checksum_of_an_unmarked_entry_is_computed",
        "test_entries_of_other_owners_are_listed_with_their_owner",
        "test_any_bytes_are_stored_unchanged[data3]",
        "test_an_entry_can_be_indexed_again",
        "test_all_keys_are_stored_listed_and_deleted_together",
    ),
    "TestKV": (
        "test_an_empty_target_lists_nothing",
        "test_a_put_over_an_entry_leaves_only_the_new_content",
        "test_entries_of_other_owners_are_listed_with_their_owner",
        "test_all_keys_are_stored_listed_and_deleted_together",
    ),
    "TestVectorize": (
        "test_a_put_over_an_entry_leaves_only_the_new_content",
        "test_a_search_finds_entries_within_its_limit",
    ),
}
"""The tests of each contract that ask the service something, in no more requests than the limit allows.

The others test syncd's own part, and run on stand-ins alone.
"""
PATIENCE_S = 600
"""Seconds for one test. Vectorize may take minutes until a change is visible."""


class Session:
    """The plugin of pytest that gives the tests their lab, and records their outcomes."""

    def __init__(self, account: Account, report: LiveReport, state: Path, limit: int) -> None:
        self._account = account
        self._report = report
        self._state = state
        self._limit = limit
        self._lab: Lab | None = None
        self._before = self._refused = 0
        self._case = Case("")
        self.missing: list[str] = []

    @pytest.fixture(scope="session")
    async def lab(self) -> AsyncIterator[Lab]:
        """Open the lab, and remove the stores of earlier runs."""
        async with open_lab(self._account, self._state, self._limit) as lab:
            self._lab = lab
            try:
                await remove_leftovers(lab, time.time())
                yield lab
            finally:
                lab.wire.cleaning = True
        self._report.add(lab)

    @pytest.fixture(scope="session")
    async def instance(self, lab: Lab) -> AISearch:
        """Make the instance of all tests of AI Search."""
        return await lab.make_instance()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the chosen tests."""
        items[:] = [item for item in items if item.name in CHOSEN.get(_class_of(item), (item.name,))]
        found = {(_class_of(item), item.name) for item in items}
        # A test that was renamed must not go missing here.
        self.missing = [f"{kind}: {name}" for kind in CHOSEN for name in CHOSEN[kind] if (kind, name) not in found]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Record one test."""
        self._case = Case(": ".join(filter(None, (_class_of(item), item.name.replace("_", " ")))))
        wire = self._lab.wire if self._lab else None
        self._before, self._refused = (wire.requests, wire.refused) if wire else (0, 0)
        result = yield
        if self._lab:
            self._case.requests = self._lab.wire.requests - self._before
            if self._case.outcome == "failed" and self._lab.wire.refused > self._refused:
                self._case.outcome, self._case.why = "not run", f"the limit of {self._limit} requests was reached"
        self._report.cases.append(self._case)
        _say(f"{self._case.outcome:<8}{self._case.requests:>4} requests  {self._case.name}")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the worst outcome of set-up, test and cleaning up."""
        self._case.seconds += report.duration
        if report.passed or self._case.outcome == "failed":
            return
        self._case.outcome = "skipped" if report.skipped else "failed"
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        lines = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")] or [text.strip()]
        self._case.why = self._account.hide(" ".join(lines))[:MESSAGE]


def _class_of(item: pytest.Item) -> str:
    return item.cls.__name__ if isinstance(item, pytest.Function) and item.cls else ""


def main() -> int:
    """Run the suite, print a line for each test, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.live", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("live-report"), help="the report, as .md and .json")
    parser.add_argument("--limit", type=int, default=LIMIT, help=f"most requests, at most {LIMIT}")
    parser.add_argument("-k", default="", help="run only tests that match this expression of pytest")
    chosen = parser.parse_args()
    try:
        account = Account.of(os.environ)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    service = "a stand-in of Cloudflare" if account.rehearsal else "Cloudflare"
    limit = min(chosen.limit, LIMIT)
    report = LiveReport(datetime.now(UTC).isoformat(timespec="seconds"), service, limit)
    began = time.monotonic()
    try:
        _run(account, report, limit, chosen.k)
    except SyncdError as error:
        report.broken = account.hide(str(error))
    report.seconds = time.monotonic() - began
    _write(report, chosen.out)
    return 0 if report.ok else 1


def _run(account: Account, report: LiveReport, limit: int, expression: str) -> None:
    arguments = [str(SUITE), "-p", "no:cacheprovider", "-p", "no:xdist", "-q", "-o", "addopts=--import-mode=importlib"]
    arguments += [f"--timeout={PATIENCE_S}", *(["-k", expression] if expression else [])]
    with TemporaryDirectory(prefix="syncd-live-") as state:
        session = Session(account, report, Path(state), limit)
        pytest.main(arguments, plugins=[session])
    if session.missing and not expression:
        report.broken = f"these tests are no part of the contract: {', '.join(session.missing)}"


def _write(report: LiveReport, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    markdown, data = out.with_suffix(".md"), out.with_suffix(".json")
    markdown.write_text(report.as_markdown(), encoding="utf-8")
    data.write_text(json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    counted = ", ".join(f"{number} {outcome}" for outcome, number in sorted(report.outcomes.items()))
    _say(f"{counted or 'no test ran'}; {report.requests} requests, {report.seconds:.0f} s")
    for case in report.cases:
        if case.outcome in ("failed", "not run"):
            _say(f"  {case.outcome}: {case.name}: {case.why}")
    for what in report.left:
        _say(f"  not removed: {what}")
    _say(f"the report to send: {markdown} and {data}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
