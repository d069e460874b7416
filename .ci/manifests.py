"""Validate deploy/kubernetes/ against the schema of every supported Kubernetes version; run by `make check`.

The script works offline, because the library contains the schemas. An unknown field is a mistake.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]
from kubernetes_validate.utils import all_versions  # type: ignore[import-untyped]

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
OLDEST = (1, 29)
"""The first version with an index label on the pods of a StatefulSet, and a retry limit for each index of a Job."""


def versions() -> list[str]:
    """Return every supported version that the library knows: "1.29", …"""
    known = {tuple(map(int, version.split(".")[:2])) for version in all_versions()}
    return [f"{major}.{minor}" for major, minor in sorted(known) if (major, minor) >= OLDEST]


def faults(files: Sequence[Path]) -> list[str]:
    """Return the mistakes, one line for each file and version."""
    found = []
    for file in files:
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            for version in versions():
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    where = ".".join(str(part) for part in error.path)
                    found.append(f"{file.name}: Kubernetes {version}: {where}: {error.message[:200]}")
                except (kubernetes_validate.SchemaNotFoundError, KeyError, TypeError) as error:
                    found.append(f"{file.name}: Kubernetes {version}: no such kind: {error!r}"[:300])
    return found


def main() -> int:
    """Print the mistakes and their number; return the exit code."""
    files, against = sorted(FOLDER.glob("*.yaml")), versions()
    if not files or not against:
        print(f"manifests: nothing to check: {len(files)} files, {len(against)} Kubernetes versions")
        return 1
    found = faults(files)
    for fault in found:
        print(f"manifests: {fault}")
    print(f"manifests: {len(files)} files, Kubernetes {against[0]} to {against[-1]}, {len(found)} mistakes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
