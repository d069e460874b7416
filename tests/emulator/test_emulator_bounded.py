import signal
import time

import pytest

from syncd.emulator import bounded


def test_an_expression_that_backtracks_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LONGEST_S", 0.05)
    before = signal.getsignal(signal.SIGALRM)
    began = time.monotonic()
    assert not bounded.found("(a+)+$", "a" * 100 + "b")
    assert time.monotonic() - began < 5.0
    assert bounded.found("a+b$", "a" * 100 + "b")
    assert signal.getsignal(signal.SIGALRM) is before
