"""When to try again. PURE: chance comes in as an argument."""

FIRST_S = 5.0
LONGEST_S = 3600.0


def delay_s(attempts: int, chance: float, *, asked_s: float | None = None) -> float:
    """Seconds until the next try after `attempts` failed ones (>= 1).

    Doubles from 5 s to one hour, spread by `chance` in [0, 1) over 75-125 % so that failures do not march in step;
    never less than `asked_s`, what the remote asked for.
    """
    exponent = min(attempts - 1, 32)
    spread = 0.75 + chance / 2
    return max(min(FIRST_S * 2.0**exponent, LONGEST_S) * spread, asked_s or 0.0)
