"""Validate deploy/ against the schema of every supported Kubernetes version; run by `make check`.

The script works offline, because the library contains the schemas. An unknown field is a mistake. Each manifest is
validated as it lies in the tree, and each overlay as kubectl or kustomize renders it. Where neither program is
installed, only the fields and references of the kustomizations are checked.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]
from kubernetes_validate.utils import all_versions  # type: ignore[import-untyped]

FOLDER = Path(__file__).parents[1] / "deploy"
OLDEST = (1, 29)
"""The first version with an index label on the pods of a StatefulSet."""
KUSTOMIZATION = "kustomization.yaml"
FIELDS = {"apiVersion", "kind", "resources", "components", "configMapGenerator", "labels", "patches", "images"}
"""The fields that the kustomizations of this project may have."""
FOREIGN = {("monitoring.coreos.com/v1", "PodMonitor")}
"""Kinds that are defined in the cluster, so that the library has no schema of them."""


def versions() -> list[str]:
    """Return every supported version that the library knows: "1.29", …"""
    known = {tuple(map(int, version.split(".")[:2])) for version in all_versions()}
    return [f"{major}.{minor}" for major, minor in sorted(known) if (major, minor) >= OLDEST]


def faults(name: str, text: str) -> Iterator[str]:
    """Yield the mistakes in the manifests of a text, one line for each version."""
    for document in yaml.safe_load_all(text):
        if (document.get("apiVersion"), document.get("kind")) in FOREIGN:
            continue
        for version in versions():
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(str(part) for part in error.path)
                yield f"{name}: Kubernetes {version}: {where}: {error.message[:200]}"
            except (kubernetes_validate.SchemaNotFoundError, KeyError, TypeError) as error:
                yield f"{name}: Kubernetes {version}: no such kind: {error!r}"[:300]


def named(kustomization: Path) -> Iterator[Path]:
    """Yield the files and directories that a kustomization names."""
    content: dict[str, Any] = yaml.safe_load(kustomization.read_text(encoding="utf-8"))
    names = [*content.get("resources", []), *content.get("components", [])]
    names += [patch["path"] for patch in content.get("patches", []) if "path" in patch]
    names += [file for generator in content.get("configMapGenerator", []) for file in generator.get("files", [])]
    for name in names:
        yield (kustomization.parent / name.rpartition("=")[2]).resolve()


def loose_ends(folder: Path) -> Iterator[str]:
    """Yield the mistakes of the kustomizations: unknown fields, missing files, and files that none of them names."""
    used = set()
    for kustomization in sorted(folder.rglob(KUSTOMIZATION)):
        where = kustomization.relative_to(folder)
        content = yaml.safe_load(kustomization.read_text(encoding="utf-8"))
        for field in sorted(content.keys() - FIELDS):
            yield f"{where}: unknown field {field}"
        for path in named(kustomization):
            used.add(path)
            if not (path / KUSTOMIZATION if path.suffix == "" else path).is_file():
                yield f"{where}: there is no {path.relative_to(folder.resolve())}"
    for path in sorted(folder.resolve().rglob("*")):
        if path.is_file() and path.name != KUSTOMIZATION and path not in used:
            yield f"{path.relative_to(folder.resolve())}: no kustomization names this file"


def renderer() -> list[str] | None:
    """Return the command that renders a kustomization, None where there is none."""
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return ["kustomize", "build"] if shutil.which("kustomize") else None


def rendered_faults(render: Sequence[str], overlay: Path) -> Iterator[str]:
    """Yield the mistakes in an overlay as it is applied."""
    ended = subprocess.run([*render, str(overlay)], capture_output=True, text=True, check=False, timeout=60)
    if ended.returncode:
        yield f"{overlay.name}: {ended.stderr.strip()}"
    else:
        yield from faults(f"{overlay.name}, rendered", ended.stdout)


def main() -> int:
    """Print the mistakes and their number; return the exit code."""
    files = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != KUSTOMIZATION)
    overlays, against = sorted(FOLDER.glob("overlays/*")), versions()
    if not files or not overlays or not against:
        counts = f"{len(files)} files, {len(overlays)} overlays, {len(against)} Kubernetes versions"
        print(f"manifests: nothing to check: {counts}")
        return 1
    found = list(loose_ends(FOLDER))
    for file in files:
        found += faults(str(file.relative_to(FOLDER)), file.read_text(encoding="utf-8"))
    render = renderer()
    if render is None:
        print("manifests: the overlays are not rendered: neither kubectl nor kustomize is installed")
    else:
        for overlay in overlays:
            found += rendered_faults(render, overlay)
    for fault in found:
        print(f"manifests: {fault}")
    print(f"manifests: {len(files)} files, Kubernetes {against[0]} to {against[-1]}, {len(found)} mistakes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
