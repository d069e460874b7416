"""The check of deploy/ in `make check` finds mistakes, and the overlays of the documentation are valid."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.unit.deploy.harness import load_script

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / ".ci/manifests.py"
PAGE = ROOT / "docs/how-to/kubernetes.md"


@pytest.fixture(scope="module")
def manifests() -> ModuleType:
    return load_script(".ci/manifests.py")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return shutil.copytree(ROOT / "deploy", tmp_path / "deploy")


def test_the_manifests_are_valid_without_a_program_that_renders(manifests: ModuleType) -> None:
    ended = subprocess.run(
        [sys.executable, SCRIPT], env={"PATH": "/none"}, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stdout
    assert "neither kubectl nor kustomize is installed" in ended.stdout
    assert list(manifests.loose_ends(ROOT / "deploy")) == []


def test_a_wrong_field_and_an_unknown_kind_are_found(manifests: ModuleType) -> None:
    text = (ROOT / "deploy/overlays/shards/statefulset.yaml").read_text(encoding="utf-8")
    count = len(manifests.versions())
    assert len(list(manifests.faults("a", text.replace("replicas: 4", "replica: 4")))) == count
    assert len(list(manifests.faults("a", text.replace("kind: StatefulSet", "kind: Statefulset")))) == count


def test_loose_ends_of_a_kustomization_are_found(manifests: ModuleType, tree: Path) -> None:
    base = tree / "base/kustomization.yaml"
    base.write_text(base.read_text(encoding="utf-8").replace("resources:", "resource:"), encoding="utf-8")
    (tree / "overlays/job/job.yaml").unlink()
    assert list(manifests.loose_ends(tree)) == [
        "base/kustomization.yaml: unknown field resource",
        "overlays/job/kustomization.yaml: there is no overlays/job/job.yaml",
        "base/volume.yaml: no kustomization names this file",
    ]


def documented(tree: Path) -> dict[str, Any]:
    """Write the overlay of the page, with all its parts, and return it."""
    overlay: dict[str, Any] = {}
    for block in re.findall(r"^( *)```yaml\n(.*?)^\1```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for field, value in yaml.safe_load(block[1]).items():
            overlay[field] = overlay[field] + value if field == "patches" and field in overlay else value
    mine = tree / "overlays/mine"
    mine.mkdir()
    shutil.copy(tree / "base/config.toml", mine)
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    return overlay


def test_the_overlay_of_the_documentation_names_files_that_exist(manifests: ModuleType, tree: Path) -> None:
    assert documented(tree).keys() >= {"resources", "images", "configMapGenerator", "patches", "components"}
    assert not [fault for fault in manifests.loose_ends(tree) if "there is no" in fault]


def test_the_overlay_of_the_documentation_renders_to_valid_manifests(manifests: ModuleType, tree: Path) -> None:
    render = manifests.renderer()
    if render is None:
        pytest.skip("neither kubectl nor kustomize is installed")
    documented(tree)
    assert list(manifests.rendered_faults(render, tree / "overlays/mine")) == []
    rendered = subprocess.run([*render, tree / "overlays/mine"], capture_output=True, text=True, check=True, timeout=60)
    kinds = {document["kind"]: document for document in yaml.safe_load_all(rendered.stdout)}
    assert kinds.keys() == {"ConfigMap", "PodMonitor", "StatefulSet"}
    spec = kinds["StatefulSet"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert (spec["replicas"], environment["SYNCD_DEFAULTS__SHARD"]) == (1, "$(POD_INDEX)/1")
    assert [*environment].index("POD_INDEX") < [*environment].index("SYNCD_DEFAULTS__SHARD")
    assert environment["SYNCD_CLOUDFLARE__QUOTA"] == "1050/300s"
    assert container["image"] == "registry.example.com/syncd:0.1.0"
    volumes = {each["name"]: each for each in spec["template"]["spec"]["volumes"]}
    assert volumes["docs"]["persistentVolumeClaim"]["claimName"] == "handbook"
    assert volumes["config"]["configMap"]["name"] == kinds["ConfigMap"]["metadata"]["name"]
