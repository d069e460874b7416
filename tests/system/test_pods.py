"""The pod template of deploy/overlays/shards runs in four pods against the stand-in, and one of them is killed.

`podman kube play` has no StatefulSet, so the test does the part of Kubernetes: it makes a pod for each index, and
replaces the references to variables. The podman of Debian 12 knows no probe of a named port, so the test asks the
probes itself.
"""

import base64
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from syncd.core.names import Shard
from tests.e2e.harness import TOKEN, Workspace, open_workspace, until
from tests.skips import NotHere
from tests.system.podman import LOOK_EVERY_S, REPOSITORY, Podman

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
DEPLOY = REPOSITORY / "deploy"
STATEFULSET = yaml.safe_load((DEPLOY / "overlays/shards/statefulset.yaml").read_text(encoding="utf-8"))["spec"]
COUNT: int = STATEFULSET["replicas"]
INDEX = "apps.kubernetes.io/pod-index"


def free_ports(count: int) -> list[int]:
    """Return different ports that are free."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def pod(index: int, image: str, changes: dict[str, str]) -> dict[str, Any]:
    """Return the pod that Kubernetes makes of the template. changes: variables that name the stand-in and the port.

    Everything that podman does not know is left out: ports in the network of the machine, and probes of a named port.
    Its volumes for emptyDir have the names of the manifest, so they get another name for each pod.
    """
    made: dict[str, Any] = json.loads(json.dumps(STATEFULSET["template"]))
    made |= {"apiVersion": "v1", "kind": "Pod"}
    made["metadata"]["name"] = f"syncd-{index}"
    made["metadata"]["labels"][INDEX] = str(index)
    made["spec"] |= {"hostNetwork": True, "restartPolicy": "Always"}
    (only,) = made["spec"]["containers"]
    for field in ("ports", "readinessProbe", "livenessProbe"):
        del only[field]
    only |= {"image": image, "imagePullPolicy": "Never"}
    for each in only["env"]:
        if "value" in each:
            each["value"] = each["value"].replace("$(POD_INDEX)", str(index))
    only["env"] += [{"name": name, "value": value} for name, value in changes.items()]
    for volume in made["spec"]["volumes"]:
        if "emptyDir" in volume:
            volume["name"] += f"-{index}"
    for mount in only["volumeMounts"]:
        if mount["name"] in ("state", "tmp"):
            mount["name"] += f"-{index}"
    return made


def config_map() -> dict[str, Any]:
    config = (DEPLOY / "base/config.toml").read_text(encoding="utf-8")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "syncd"}, "data": {"config.toml": config}}


@dataclass(frozen=True, slots=True)
class Pods:
    """The four pods. folder: the volume that they share."""

    engine: Podman
    image: str
    workspace: Workspace
    folder: Path
    ports: list[int]

    def start(self, index: int) -> None:
        """Start one pod, as Kubernetes does."""
        changes = {
            "SYNCD_CLOUDFLARE__BASE_URL": self.workspace.server.base_url,
            "SYNCD_CLOUDFLARE__QUOTA": "",
            "SYNCD_CLOUDFLARE__TPSLIMIT": "20",
            "SYNCD_DEFAULTS__POLL_INTERVAL": "1s",
            "SYNCD_DEFAULTS__DELETE_AFTER": "0",
            "SYNCD_WEB__METRICS_LISTEN": f"127.0.0.1:{self.ports[index]}",
        }
        config, manifest = self.workspace.path / "config.yaml", self.workspace.path / "pod.yaml"
        config.write_text(yaml.safe_dump(config_map()))
        manifest.write_text(yaml.safe_dump(pod(index, self.image, changes)))
        self.engine.does("kube", "play", "--configmap", str(config), str(manifest))

    def pid(self, index: int) -> int:
        pid: int = self.engine.inspect("container", container(index))["State"]["Pid"]
        return pid

    def stop(self, index: int) -> None:
        """Stop one pod by SIGTERM, and remove it with its state."""
        self.engine.does("pod", "stop", "-t", "15", f"syncd-{index}")
        assert self.engine.events(container(index), "daemon.stop")[-1]["code"] == 0
        self.engine.does("pod", "rm", f"syncd-{index}")

    def keys(self, index: int, event: str) -> set[str]:
        """Return the keys of the events of one pod."""
        return {each["key"] for each in self.engine.events(container(index), event)}


def container(index: int) -> str:
    return f"syncd-{index}-syncd"


@pytest.fixture
def pods(engine: Podman, image: str, tmp_path: Path) -> Iterator[Pods]:
    """No pod yet, and a folder of 200 files in the claim of the manifests."""
    if not any(Path(place, "catatonit").exists() for place in ("/usr/bin", "/usr/libexec/podman", "/usr/lib/podman")):
        raise NotHere("podman makes no pods here: there is no catatonit")
    with open_workspace(tmp_path) as workspace:
        engine.does("kube", "play", str(DEPLOY / "base/volume.yaml"))
        token = base64.b64encode(TOKEN.encode()).decode()
        engine.does("secret", "create", "syncd", "-", given=json.dumps({"token": token}))
        folder = Path(engine.inspect("volume", "syncd-docs")["Mountpoint"])
        workspace.docs.rmdir()
        workspace.docs.symlink_to(folder)
        for number in range(200):
            workspace.write(f"part-{number % 7}/{number}.md", f"text {number}")
        yield Pods(engine, image, workspace, folder, free_ports(COUNT))
        engine.does("secret", "rm", "syncd")


def test_four_pods_mirror_a_folder_and_one_is_killed(pods: Pods) -> None:
    for index in range(COUNT):
        pods.start(index)
    # Kill one in the middle of its uploads. Podman starts it again, as the kubelet does.
    pods.engine.saw(container(2), "put.done")
    first = pods.pid(2)
    os.kill(first, signal.SIGKILL)
    until(lambda: pods.pid(2) not in (0, first), "it is not started again", every_s=LOOK_EVERY_S)
    pods.workspace.in_step()
    assert len(pods.workspace.remote.files()) == 200
    assert pods.workspace.remote.counted()["changing"] < 220, "a killed pod uploads little again"
    for index in range(COUNT):
        until(lambda: probed(pods.ports[index], "readinessProbe"), every_s=LOOK_EVERY_S)  # noqa: B023
        assert probed(pods.ports[index], "livenessProbe")
        keys = pods.keys(index, "put.done")
        assert keys, "each pod has a part"
        assert not [key for key in keys if not Shard(index, COUNT).holds(key)], "and no pod writes a key of another"

    # One pod is moved, so it loses its state, while files are deleted from all parts.
    pods.stop(1)
    gone = {f"part-{number % 7}/{number}.md" for number in range(0, 200, 25)}
    for key in gone:
        (pods.folder / key).unlink()
    pods.start(1)
    pods.workspace.in_step()
    deleted = [pods.keys(index, "delete.done") for index in range(COUNT)]
    assert deleted == [{key for key in gone if Shard(index, COUNT).holds(key)} for index in range(COUNT)]
    for index in range(COUNT):
        pods.stop(index)


def probed(port: int, kind: str) -> bool:
    """Return whether a probe of the template succeeds."""
    (template,) = STATEFULSET["template"]["spec"]["containers"]
    try:
        return httpx.get(f"http://127.0.0.1:{port}{template[kind]['httpGet']['path']}", timeout=5).is_success
    except httpx.TransportError:
        return False
