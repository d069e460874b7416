"""`python -m bench.convert FOLDER`: converts the documents of a folder, and prints the memory and the time.

The bench brings no documents along, so this part runs with a folder of your own only.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from bench.workspace import ACCOUNT, SYNCD, Standin, workspace

SAMPLE_S = 0.02
LIMIT_MB = 400.0
PATTERNS = ["*.pptx", "*.epub", "*.ipynb", "*.doc", "*.docx", "*.rtf", "*.eml", "*.odt", "*.pdf"]


def main() -> int:
    """Measure one first pass and one pass afterwards. Return 1 if the memory is over LIMIT_MB."""
    [folder] = sys.argv[1:]
    with Standin() as standin, workspace(standin, 0) as here:
        config = here.tree.parent / "convert.toml"
        config.write_text(
            f'state_dir = "{here.tree.parent / "convert-state"}"\n'
            f'[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{standin.base_url}"\napi_token = "any-token"\n'
            f'quota = ""\n[mirrors.docs]\npath = "{Path(folder).resolve()}"\nconvert = {json.dumps(PATTERNS)}\n'
            '[mirrors.docs.target]\ntype = "ai-search"\ninstance = "converted"\ncreate = true\n'
        )
        config.chmod(0o600)
        peaks = [_measure(what, str(config)) for what in ("first pass", "next pass")]
    return int(max(peaks) > LIMIT_MB)


def _measure(what: str, config: str) -> float:
    """Run a pass, print one line, and return the highest sum of the resident memory of all its processes, in MB."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [*SYNCD, "-c", config, "reconcile", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    parent, children = 0.0, 0.0
    together = 0.0
    while process.poll() is None:
        ours, theirs = _resident_mb(process.pid), [_resident_mb(child) for child in _children(process.pid)]
        parent, children = max(parent, ours), max(children, sum(theirs))
        together = max(together, ours + sum(theirs))
        time.sleep(SAMPLE_S)
    took = time.perf_counter() - began
    out, _ = process.communicate()
    found = json.loads(out)["mirrors"]["docs"]
    problems = dict(Counter(problem["kind"] for problem in found["problems"]))
    print(f"{what}: {found['result']}, problems {problems}, {took:.1f} s")
    print(f"  peak {together:.0f} MB together; syncd {parent:.0f} MB, its converters {children:.0f} MB")
    return together


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def _resident_mb(pid: int) -> float:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
