"""Runs mutmut over a random sample of mutants of core/, state/ and sync/, and lists the mutants that no test notices.

mutmut copies the tree to mutants/, finds the tests that cover each function, and runs them for each mutant. Its
settings are in pyproject.toml. The hash of the seed and its name selects a mutant, so a change of one file leaves most
of the sample as it is. `mutmut show NAME` prints a mutant of the last run again.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import libcst as cst
from mutmut.mutation.file_mutation import Mutation, create_mutations, group_by_top_level_node
from mutmut.mutation.trampoline_templates import mangle_function_name
from mutmut.utils.format_utils import get_mutant_name

ROOT = Path(__file__).parents[1]
ROOMS = ("core", "state", "sync")
COPY = ROOT / "mutants"
LOG = COPY / "mutmut.log"
SQL = ("SELECT", "INSERT", "UPDATE", "DELETE", "PRAGMA", "WHERE", "ORDER", "FROM", "AND ", "UNION", "EXCEPT", " ")
SURVIVED, NO_TESTS = 0, 33
NOT_RUN = (None, 2)  # 2: interrupted
ENOUGH = 0.9


def is_behaviour(mutation: Mutation) -> bool:
    """Leaves out mutants of the wording of a message, and of the case of letters.

    Case: SQL ignores it, and another mutant replaces the whole of a word such as "put".
    """
    old, new = mutation.original_node, mutation.mutated_node
    if not (isinstance(old, cst.SimpleString) and isinstance(new, cst.SimpleString)):
        return True
    text = old.raw_value
    is_wording = " " in text.strip() and not text.startswith(SQL)
    return not is_wording and old.value.lower() != new.value.lower()


def mutants_of(file: Path) -> Iterator[str]:
    """Yields the names of the mutants of a file, as mutmut numbers them."""
    module, mutations, *_ = create_mutations(str(file), file.read_text())
    by_function = group_by_top_level_node(mutations)
    classes = [part for part in module.body if isinstance(part, cst.ClassDef)]
    owners: list[tuple[str, cst.Module | cst.BaseSuite]] = [
        ("", module),
        *((each.name.value, each.body) for each in classes),
    ]
    for owner, block in owners:
        for function in block.body:
            if isinstance(function, cst.FunctionDef):
                mangled = mangle_function_name(name=function.name.value, class_name=owner or None)
                for number, mutation in enumerate(by_function.get(function, ()), start=1):
                    if is_behaviour(mutation):
                        yield get_mutant_name(file, f"{mangled}__mutmut_{number}")


def results(chosen: dict[str, Path]) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for file in sorted(set(chosen.values())):
        found |= json.loads((COPY / f"{file}.meta").read_text())["exit_code_by_key"]
    return {name: found[name] for name in chosen}


def report(chosen: dict[str, Path], codes: dict[str, int | None]) -> float:
    """Prints the survivors and the table, and returns the share of mutants that a test notices."""
    done = [name for name, code in codes.items() if code not in NOT_RUN]
    survivors = [name for name in done if codes[name] in (SURVIVED, NO_TESTS)]
    for name in survivors:
        subprocess.run([sys.executable, "-m", "mutmut", "show", name], check=True)
    print(f"\n{'mutants':>7} {'noticed':>7}  file")
    for file in sorted(set(chosen.values())):
        tried = [name for name in done if chosen[name] == file]
        print(f"{len(tried):7} {sum(name not in survivors for name in tried):7}  {file}")
    share = 1 - len(survivors) / max(1, len(done))
    print(f"{len(done):7} {len(done) - len(survivors):7}  all: {share:.1%}; {len(codes) - len(done)} not run in time")
    return share


def main() -> int:
    options = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--mutants", type=int, default=300, help="size of the sample (300)")
    options.add_argument("--minutes", type=float, default=25, help="limit; slow mutants run last (25)")
    args = options.parse_args()
    os.chdir(ROOT)
    files = [file for room in ROOMS for file in sorted(Path("syncd", room).glob("*.py"))]
    every = {name: file for file in files for name in mutants_of(file)}
    order = sorted(every, key=lambda name: hashlib.sha256(f"{args.seed} {name}".encode()).digest())
    chosen = {name: every[name] for name in sorted(order[: args.mutants])}
    print(f"seed {args.seed}: {len(chosen)} of {len(every)} mutants", flush=True)
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir()
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *chosen]
    with LOG.open("wb") as log, subprocess.Popen(command, stdout=log) as run:
        with suppress(subprocess.TimeoutExpired):
            run.wait(args.minutes * 60)
        if run.poll() is None:
            run.send_signal(signal.SIGINT)
    if run.returncode:
        sys.exit(f"mutmut failed; see {LOG}")
    return 0 if report(chosen, results(chosen)) >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
