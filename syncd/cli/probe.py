"""check --probe: learns answers of an instance that no document describes, and stores them."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from syncd.cli.context import GlobalOptions, change_state, run_async
from syncd.cli.output import print_json, print_line, print_note, print_table
from syncd.core.errors import EXIT_OK, SyncdError, most_serious
from syncd.core.plain_text import counted, utc_time
from syncd.core.probe_answers import ProbeAnswers
from syncd.service import signals

if TYPE_CHECKING:
    import sqlite3

    from syncd.config.schema import Config
    from syncd.service.build import Session
    from syncd.targets.base import Probe

_UNKNOWN = "not learned"
_QUESTIONS = {
    "existing": "a second upload of a name",
    "id_kept": "the id of a replaced item",
    "checksum": "the checksum of an item",
    "metadata": "metadata of an upload",
    "metadata_listed": "metadata in the listing",
    "list_lag_s": "the listing shows an upload",
    "delete_gone": "a deleted item",
    "names": "quotes in a file name",
}
_ANSWERS: dict[str, dict[object, tuple[str, str]]] = {
    "existing": {
        "overwrite": ("replaces the item", "a changed file is one request"),
        "conflict": ("is refused (409)", "the old item is deleted first; no upload is sent in vain"),
        "beside": ("makes a second item", "full passes remove the older one"),
    },
    "id_kept": {True: ("stays the same", ""), False: ("is a new one", "")},
    "checksum": {
        **{
            kind: (f"is the {kind} of the content", "contents are compared without a download")
            for kind in ("md5", "sha1", "sha256")
        },
        "zero": ("is always 0", "contents without marks are compared by a download"),
        "opaque": ("is no digest", "contents without marks are compared by a download"),
        "absent": ("is not given", "contents without marks are compared by a download"),
    },
    "metadata": {
        "all": ("is kept, with all fields", ""),
        "marks": ("takes the marks, not the mirror's fields", "the fields are not offered"),
        "none": ("is refused", "no metadata is offered; ownership is known locally only"),
    },
    "metadata_listed": {
        True: ("is shown", "a lost state is rebuilt from the listing"),
        False: ("is not shown", "contents are compared by their checksum or a download"),
    },
    "delete_gone": {True: ("is gone at once", ""), False: ("is still shown for a while", "")},
    "names": {
        "backslash": ('are written as \\"', ""),
        "percent": ("are written as %22", "files with such names can be mirrored"),
    },
}
"""Question -> answer -> (words, consequence)."""


def probe_targets(options: GlobalOptions, names: Sequence[str], *, as_json: bool) -> int:
    """Probe the targets of some mirrors, all if none is named. Print and store the answers. Return the exit code."""
    signals.describe_with(lambda: "check: a throw-away item may be left; syncd check --probe removes it")
    config = options.load()
    return run_async(_probe_all(config, names, as_json=as_json))


async def _probe_all(config: "Config", names: Sequence[str], *, as_json: bool) -> int:
    from syncd.service.build import open_session

    # Each request is tried once, so that their number is known.
    single_try = config.model_copy(update={"cloudflare": config.cloudflare.model_copy(update={"retry_for": 0.0})})
    results: dict[str, Any] = {}
    codes = {EXIT_OK}
    # A new state decides the owner marks. By its mark, a later pass recognises an item that a killed probe left.
    await change_state(config, lambda _: None)
    async with open_session(single_try, names, read_only=True) as session:
        for name in session.mirrors:
            try:
                results[name] = await _probe(session, config, name, as_json=as_json)
            except SyncdError as error:
                print_note(f"{name}: nothing was learned: {error}")
                results[name] = {"error": str(error)}
                codes.add(error.exit_code)
    code = most_serious(codes)
    if as_json:
        print_json({"mirrors": results, "exit_code": code})
    return code


async def _probe(session: "Session", config: "Config", name: str, *, as_json: bool) -> dict[str, Any]:
    from syncd.service.build import stored_answers
    from syncd.targets.base import Probed

    spec, target = config.mirrors[name].target.spec, session.mirrors[name].target
    if not isinstance(target, Probed):
        if not as_json:
            print_line(f"{name}: {spec}: nothing to learn; its answers are documented")
        return {"target": spec, "requests": 0, "answers": {}}
    if not as_json:
        print_line(f"{name}: {spec}: uploading a throw-away item, and deleting it again")
    probe = await target.probe()
    await change_state(config, lambda db: stored_answers(config, name, db).set(probe.answers))
    if not as_json:
        _print(probe)
    answers = probe.answers.as_json()
    fields = answers.pop("fields")
    return {
        "target": spec,
        "requests": probe.requests,
        "removed": probe.removed,
        "seconds": round(probe.seconds, 2),
        "answers": answers,
        "fields": fields,
        "notes": [*probe.notes],
    }


def _print(probe: "Probe") -> None:
    print_table(("QUESTION", "ANSWER", "CONSEQUENCE"), _rows(probe.answers))
    for note in probe.notes:
        print_line(f"  {note}")
    left = f"; {counted(probe.removed, 'item')} of an earlier probe removed" if probe.removed else ""
    print_line(f"  {counted(probe.requests, 'request')}, {probe.seconds:.1f} s{left}; kept in the state for 90 days")


def _rows(answers: ProbeAnswers) -> Iterator[tuple[str, str, str]]:
    for question, subject in _QUESTIONS.items():
        answer = getattr(answers, question)
        if question == "id_kept" and answers.existing in ("conflict", "beside"):
            continue
        if question == "list_lag_s" and answer is not None:
            words = (
                "at once" if answer < 1 else f"within {answer:g} s",
                f"a listing is believed after {answers.lag_s:.0f} s",
            )
        else:
            words = _ANSWERS.get(question, {}).get(answer, (_UNKNOWN, "syncd works with either answer"))
        yield subject, *words


def learned_line(config: "Config", name: str, db: "sqlite3.Connection") -> tuple[str, bool] | None:
    """Return the answers of an earlier probe in one line, and whether they still count. None: there was no probe."""
    from syncd.service.build import stored_answers

    learned = stored_answers(config, name, db)
    at = learned.at()
    if at is None:
        return None
    answers = learned.get()
    when = utc_time(at)[:10]
    words = [
        f"{_QUESTIONS[question]} {_ANSWERS[question][answer][0]}"
        for question in ("existing", "checksum")
        if (answer := getattr(answers, question)) is not None
    ]
    return f"{when}: {'; '.join(words) or 'no answer that counts'}", bool(words)
