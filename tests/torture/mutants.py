"""`make mutants`: break a copy of syncd in one way at a time, and check that the tests fail.

Each mutant is applied to a copy of the tree. It is caught if any of the tests named for it fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("syncd", "tests", "pyproject.toml", "config.example.toml")
LONGEST_S = 600.0
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: `old` stands exactly once in `file` and becomes `new`. storm: the seed of one that catches it too."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    storm: int | None = None


UPLOADS = "        applier = await _apply_uploads(current)\n"
DECISION = "        context = await _brake(current)\n"
MUTANTS = (
    Mutant(
        "an audit does not compare how many entries there are",
        "syncd/sync/audit.py",
        "if findings.total != mirror.journal.count() + base.others + findings.added:",
        "if findings.total is None:",
        ("tests/unit/sync/test_audit.py", "tests/unit/targets/test_ai_audit.py"),
    ),
    Mutant(
        "an audit takes the newest entries for what they were",
        "syncd/sync/audit.py",
        "if not (row.present and agree and entry.owner in (None, policy.owner)):",
        "if not row.present:",
        ("tests/unit/sync/test_audit.py", "tests/unit/targets/test_ai_audit.py"),
    ),
    Mutant(
        "the default owner is the mirror's name alone",
        "syncd/state/ownership.py",
        'return f"{name[:_NAME_LENGTH]}-{hashlib.sha256(identity).hexdigest()[:_DIGITS]}"',
        'return f"{name[:_NAME_LENGTH]}-{len(identity) % 1:0{_DIGITS}x}"',
        ("tests/unit/state/test_ownership.py",),
    ),
    Mutant(
        "our mark is proof enough for ever",
        "syncd/core/plan.py",
        "or not (complete or has_other_prefix(entry, policy))",
        "or not has_other_prefix(entry, policy)",
        ("tests/unit/sync/test_ownership.py", "tests/simulation/test_simulation.py"),
    ),
    Mutant(
        "an entry whose marks are gone is still ours",
        "syncd/core/plan.py",
        "if record is not None and record.marked and entry.marked is False and record.ref == entry.ref:",
        "if False:",
        ("tests/unit/targets/test_kv_sharing.py",),
    ),
    Mutant(
        "puts are not claimed before they are sent",
        "syncd/sync/apply.py",
        "self._mirror.claims.add_puts([put.key for _, put in due], self._mirror.age())",
        "pass",
        ("tests/unit/sync/test_ownership.py",),
    ),
    Mutant(
        "entries of an earlier key prefix are orphans",
        "syncd/core/plan.py",
        "return entry.prefix not in (None, policy.prefix) and entry.owner == policy.owner",
        "return False",
        ("tests/e2e/test_earlier_settings.py",),
    ),
    Mutant(
        "journal written before the request is answered",
        "syncd/sync/apply.py",
        "        # A thread that waits for a conversion would keep other files waiting.\n",
        "        for put in puts:\n"
        "            from syncd.core.model import Record, Stored\n"
        "            content, _ = self._mirror.tree.read(put.path)\n"
        "            early = Stored(put.ref or put.key, content.checksum, len(content.data))\n"
        "            self._mirror.journal.put(Record.of(put.key, early, 0.0, 0))\n",
        ("tests/simulation", "tests/unit/sync/test_failures.py"),
    ),
    Mutant(
        "a delete leaves no line in the log of deletes",
        "syncd/sync/apply.py",
        "            writer.write(line, now)\n",
        "",
        ("tests/unit/state/test_deletions.py",),
    ),
    Mutant(
        "a full disk is noticed only after the delete",
        "syncd/state/deletions.py",
        "_check_room(descriptor, sum(len(_line(line, 0.0)) for line in lines))",
        "pass",
        ("tests/unit/state/test_deletions.py",),
    ),
    Mutant(
        "an upload is repeated without a look after a lost answer",
        "syncd/targets/ai_search/writing.py",
        "look_first = look_first or error.ambiguous",
        "del error",
        ("tests/unit/targets/test_ai_trouble.py", "tests/unit/targets/test_ai_replacing.py"),
    ),
    Mutant(
        "any request is repeated after a lost answer",
        "syncd/cloudflare/transport.py",
        "return self.safe or not error.ambiguous",
        "return True",
        ("tests/unit/cloudflare",),
    ),
    Mutant(
        "a renamed file goes from its old name before it is found under the new one",
        "syncd/sync/deletes.py",
        "if abs(waited_s) <= PATIENCE_S:",
        "if abs(waited_s) < 0:",
        ("tests/unit/targets/test_ai_replacements.py", "tests/e2e/test_no_hole.py"),
    ),
    Mutant(
        "an upload that did not end well holds no delete",
        "syncd/sync/deletes.py",
        "        if gone and not moved and (key",
        "        if False and gone and not moved and (key",
        ("tests/unit/sync/test_deletes.py",),
    ),
    Mutant(
        "a file that is gone for a moment is believed to be gone",
        "syncd/sync/deletes.py",
        "if gone and age_s < delete_after:",
        "if gone and age_s < 0:",
        ("tests/unit/sync/test_deletes.py",),
    ),
    Mutant(
        "the brake counts by the wall clock",
        "syncd/sync/guard.py",
        "mirror.journal.tombstones.recent_deletes(mirror.age())",
        "mirror.journal.tombstones.recent_deletes(mirror.now())",
        ("tests/unit/sync/test_clocks.py",),
    ),
    Mutant(
        "whose an entry is, is not asked before it is deleted",
        "syncd/core/plan.py",
        'if policy.prune == "all" or is_ours(record, entry, policy):',
        "if True:",
        ("tests/unit/core/test_plan.py", "tests/simulation"),
        storm=0,
    ),
    Mutant(
        "another's mark counts for nothing",
        "syncd/core/plan.py",
        "return entry.owner == policy.owner",
        "return True",
        ("tests/unit/core/test_plan.py", "tests/simulation"),
        storm=0,
    ),
    Mutant(
        "a listing is believed right after our own delete",
        "syncd/sync/observe.py",
        "tables.remote.add([entry for entry in batch if entry.ref not in deleted])",
        "tables.remote.add(batch)",
        ("tests/unit/sync/test_remote_changes.py", "tests/unit/targets"),
    ),
    Mutant(
        "a shard takes other shards' entries for its own",
        "syncd/sync/observe.py",
        "return entries if shard == WHOLE else (entry async for entry in entries if shard.holds(entry.key))",
        "return entries",
        ("tests/unit/sync/test_shards.py",),
    ),
    Mutant(
        "a shard remembers keys that it gave away",
        "syncd/state/ownership.py",
        "if before == str(shard):",
        "if True:",
        ("tests/unit/sync/test_shards.py",),
    ),
    Mutant(
        "a read is believed right after our own write",
        "syncd/sync/resolve.py",
        "return limits.reads_lag and changed_at is not None and abs(self.mirror.now() - changed_at) <= limits.lag_s",
        "return False",
        ("tests/unit/targets/test_kv_passes.py", "tests/unit/targets/test_kv_content.py", "tests/contract"),
    ),
    Mutant(
        "an overflow of the kernel's queue is ignored",
        "syncd/watch/inotify.py",
        "            self.invalidate()\n            return\n",
        "            return\n",
        ("tests/unit/watch/test_trouble.py",),
        storm=3,
    ),
    Mutant(
        "a record from a clock that was ahead counts as this pass's own",
        "syncd/sync/apply.py",
        "journal.written(keys, self._pass.started, self._mirror.now())",
        'journal.written(keys, self._pass.started, float("inf"))',
        ("tests/unit/sync/test_clocks.py",),
        storm=5,
    ),
    Mutant(
        "a full disk halts the daemon",
        "syncd/service/error_policy.py",
        "isinstance(error, (Halt, Brake)) and not isinstance(error, StateHalt)",
        "isinstance(error, (Halt, Brake))",
        ("tests/unit/sync/test_full_disk.py", "tests/unit/service/test_error_policy.py"),
    ),
    Mutant(
        "the owner is the mirror's bare name",
        "syncd/state/ownership.py",
        """return f"{name[:_NAME_LENGTH]}-{hashlib.sha256(identity).hexdigest()[:_DIGITS]}\"""",
        "return name[:_NAME_LENGTH]",
        ("tests/unit/state/test_ownership.py", "tests/e2e/test_two_machines.py"),
    ),
    Mutant(
        "an owner that was derived is not remembered",
        "syncd/service/build.py",
        "            ownership.remember(mirrors[name].owner, section.path, Meta(db, name))\n",
        "            pass\n",
        ("tests/e2e/test_two_machines.py",),
    ),
    Mutant(
        "what was mounted below the root is not missed",
        "syncd/sync/guard.py",
        "        if path not in now or now[path] != mounted:\n",
        "        if False:\n",
        ("tests/unit/local/test_mounts.py",),
    ),
    Mutant(
        "files below a mount that is gone count as deleted",
        "syncd/local/mounts.py",
        "        place = _place(self.closed, path)\n",
        "        place = None\n",
        ("tests/unit/sync/test_mount_guard.py",),
    ),
    Mutant(
        "files that a mount hides count as deleted",
        "syncd/local/walk.py",
        "return self._judge(key, entries) if entries else self.protected.hides(path)",
        "return self._judge(key, entries) if entries else None",
        ("tests/unit/sync/test_mount_guard.py",),
    ),
    Mutant(
        "a root that was a mount is believed without it",
        "syncd/sync/guard.py",
        "    if is_root_mount_gone(mirror, seen):\n",
        "    if False:\n",
        ("tests/e2e/test_mounts.py",),
    ),
    Mutant(
        "a folder is empty only if it holds no name at all",
        "syncd/sync/guard.py",
        """return None if mirror.tree.includes_any() else "holds no file that the rules take\"""",
        "return None",
        ("tests/unit/sync/test_empty_files.py",),
    ),
    Mutant(
        "an empty folder is believed if only the target knows of its files",
        "syncd/sync/reconcile.py",
        "        halt_if_emptied(mirror, result.tables)\n",
        "        pass\n",
        ("tests/unit/sync/test_empty_files.py",),
    ),
    Mutant(
        "the first pass over a lost state may delete ten files unweighed",
        "syncd/core/plan.py",
        "0 if self.fresh or nothing",
        "0 if nothing",
        ("tests/unit/sync/test_empty_files.py",),
    ),
    Mutant(
        "a link into a mount that is gone is what lies below",
        "syncd/local/walk.py",
        "            return self._closed(key, places) or _DirEntry.of(path, status)\n",
        "            return _DirEntry.of(path, status)\n",
        ("tests/unit/local/test_links.py",),
    ),
    Mutant(
        "an ignore file is believed while it is written",
        "syncd/local/ignores.py",
        "        if abs(age) < self.settle:\n",
        "        if False:\n",
        ("tests/unit/local/test_ignores.py",),
    ),
    Mutant(
        "an ignore file that changed while it was read is believed",
        "syncd/local/ignores.py",
        "        if fingerprint(os.fstat(descriptor)) != current or len(data) != before.st_size:\n",
        "        if False:\n",
        ("tests/unit/local/test_ignores.py",),
    ),
    Mutant(
        "an ignore file that cannot be obeyed counts as none",
        "syncd/local/ignores.py",
        "        except FileNotFoundError:\n            return []\n",
        "        except OSError:\n            return []\n",
        ("tests/unit/local/test_ignores.py",),
    ),
    Mutant(
        "a file that was moved counts as lost",
        "syncd/state/deletions.py",
        "max(0, going - {_COPIES} - coalesce",
        "max(0, going - coalesce",
        ("tests/unit/sync/test_deletes.py",),
    ),
    Mutant(
        "a plan that is refused deletes all the same",
        "syncd/sync/reconcile.py",
        "        if not result.refusal:\n            await _apply_deletes",
        "        if True:\n            await _apply_deletes",
        ("tests/unit/sync/test_guards.py",),
    ),
    Mutant(
        "a plan that is refused is not put either",
        "syncd/sync/reconcile.py",
        UPLOADS + DECISION,
        DECISION + UPLOADS,
        ("tests/unit/sync/test_deletes.py",),
    ),
    Mutant(
        "a file's old vectors stay when it changes",
        "syncd/targets/vectorize/writing.py",
        "refs = [ref for ref in dict.fromkeys([*known, *replaced]) if ref != str(file.ref)]",
        "refs: list[str] = []",
        ("tests/unit/targets/test_vector_passes.py",),
    ),
    Mutant(
        "a put that fails takes the vectors that it found with it",
        "syncd/targets/vectorize/writing.py",
        "for vector_id in file.added]",
        "for vector_id in file.ref.ids()]",
        ("tests/unit/targets/test_vector_trouble.py",),
    ),
    Mutant(
        "vectors of which one is missing count as whole",
        "syncd/targets/vectorize/target.py",
        "        if count != ref.chunks:\n",
        "        if not count:\n",
        ("tests/unit/targets/test_vector_passes.py", "tests/unit/targets/test_vector_trouble.py"),
    ),
    Mutant(
        "an ignore file that is gone is believed gone at once",
        "syncd/local/ignores.py",
        "wait = known.gone_at + self.settle - now",
        "wait = 0.0",
        ("tests/unit/local/test_ignores.py",),
    ),
    Mutant(
        "an ignore file that was emptied is believed",
        "syncd/local/ignores.py",
        "not data.strip() and 0 <= age < self.empty_settle",
        "False",
        ("tests/unit/local/test_ignores.py",),
    ),
    Mutant(
        "a file is sent although an ignore file leaves it out by now",
        "syncd/sync/apply.py",
        "if tree.is_excluded(put.path):",
        "if False:",
        ("tests/unit/sync/test_local_changes.py",),
    ),
    Mutant(
        "a vector of zeros is kept",
        "syncd/cloudflare/workers_ai.py",
        "and any(vector) and len(vector)",
        "and len(vector)",
        ("tests/unit/cloudflare/test_workers_ai.py",),
    ),
    Mutant(
        "a link may lead to what the rules leave out",
        "syncd/local/walk.py",
        "            if rule := self._forbidden(places):\n",
        "            if rule := None:\n",
        ("tests/unit/local/test_links.py",),
    ),
    Mutant(
        "a name that is not UTF-8 stands for nothing",
        "syncd/local/walk.py",
        "        if unread and not twins:\n",
        "        if False:\n",
        ("tests/unit/local/test_walk.py", "tests/unit/core/test_names.py", "tests/e2e/test_locales.py"),
    ),
    Mutant(
        "vectors are given to other texts than they were made of",
        "syncd/targets/vectorize/writing.py",
        "dict(zip(part, answer, strict=True))",
        "dict(zip(part, reversed(answer), strict=True))",
        ("tests/unit/targets/test_vector_passes.py", "tests/unit/targets/test_vector_trouble.py"),
        storm=12,
    ),
    Mutant(
        "vectors of other owners count as ours",
        "syncd/targets/vectorize/target.py",
        "            if others or owner == self._maker.owner:\n",
        "            if True:\n",
        ("tests/unit/targets/test_vector_passes.py",),
        storm=12,
    ),
)


def main() -> int:
    """Try the selected mutants. Return 1 if the tests missed one."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--storms", action="store_true", help="play the storms, too, that catch a mutant")
    parser.add_argument("only", nargs="*", type=int, help=f"numbers, 0 to {len(MUTANTS) - 1} (default: all)")
    chosen = parser.parse_args()
    if not chosen.only:
        _check_whole()
    missed = 0
    for number, mutant in enumerate(MUTANTS):
        if chosen.only and number not in chosen.only:
            continue
        print(f"{number}: {mutant.name} … ", end="", flush=True)
        with tempfile.TemporaryDirectory(prefix="syncd-mutant-") as place:
            tree = Path(place)
            copy(tree)
            apply(mutant, tree)
            verdicts = {"tests": _fails(tree, *PYTEST, *mutant.tests)}
            if chosen.storms and mutant.storm is not None:
                storm = ("--storms", "1", "--seed", str(mutant.storm))
                verdicts["storm"] = _fails(tree, "tests/torture/torture.py", *storm)
        missed += not all(verdicts.values())
        print(
            ", ".join(f"{'caught' if caught else 'MISSED'} by {name}" for name, caught in verdicts.items()), flush=True
        )
    return 1 if missed else 0


def _check_whole() -> None:
    """Raise RuntimeError if the tests fail without a mutant, because they would then catch every mutant."""
    print("nothing broken … ", end="", flush=True)
    with tempfile.TemporaryDirectory(prefix="syncd-mutant-") as place:
        copy(Path(place))
        if _fails(Path(place), *PYTEST, *sorted({each for mutant in MUTANTS for each in mutant.tests})):
            raise RuntimeError("the tests fail with nothing broken; mend that first")
    print("passes", flush=True)


def copy(tree: Path) -> None:
    """Copy the files that the tests need."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, tree / name)


def apply(mutant: Mutant, tree: Path) -> None:
    """Break a copy. Raise ValueError if the text to replace does not occur exactly once."""
    file = tree / mutant.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file}: found {text.count(mutant.old)} times, and must be once: {mutant.old!r}")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def _fails(tree: Path, *arguments: str) -> bool:
    """Return whether the tests fail. Raise RuntimeError if they could not run, which would look the same."""
    paths = (tree, tree / "tests/e2e")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=env, capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    if ended.returncode not in {0, 1}:
        raise RuntimeError(
            f"{' '.join(arguments)}: exit {ended.returncode}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}"
        )
    return ended.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
