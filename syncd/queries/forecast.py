"""How long so many requests take, and how long a pass that is under way has still to go. PURE."""

REQUEST_S = 0.3
"""A guess at one request to Cloudflare, for where no rate limit says how many there are in a second."""
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def per_second(tpslimit: float, transfers: int) -> float:
    """Return the requests per second that a rate limit (0: none) and a number of slots allow."""
    rate = transfers / REQUEST_S
    return min(tpslimit, rate) if tpslimit else rate


def left_s(left: int, done: int, elapsed_s: float, floor_s: float) -> float | None:
    """Return the seconds that so many actions still take, None while nothing is known.

    done: actions since elapsed_s seconds ago. floor_s: the least that the rate limit lets the rest take. The slower of
    both counts: a bulk that has just gone through says little of the next one, and the limit little of large files.
    """
    if left <= 0:
        return 0.0
    if done <= 0:
        return floor_s or None
    return max(left * elapsed_s / done, floor_s)


def span(seconds: float) -> str:
    """A length of time for people: "7 s", "6 min", "3 h 20 min", "2 d 4 h"."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    # Rounded to what is shown, so that 59 min 40 s is an hour.
    small = 3600 if whole >= 86400 else 60
    whole = round(whole / small) * small
    place = next(place for place, (unit, _) in enumerate(_UNITS) if whole >= unit)
    (unit, name), (below, below_name) = _UNITS[place], (*_UNITS, (1.0, "s"))[place + 1]
    rest = int(whole % unit // below)
    more = f" {rest} {below_name}" if rest and below_name != "s" else ""
    return f"{int(whole // unit)} {name}{more}"
