"""deploy/ fits syncd: its config loads, its shards are all there, its probes ask a daemon that runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from syncd.config.schema import Config
from syncd.config.sources import load, login
from syncd.core.names import Shard
from syncd.service.build import build_settings
from tests.e2e.harness import Daemon, open_workspace

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy"
DAEMON, JOB = "overlays/shards/statefulset.yaml", "overlays/job/job.yaml"
WORKLOADS = [DAEMON, JOB]
SECRET = {("syncd", "token"): "a-token"}
"""The Secret that docs/how-to/kubernetes.md creates."""
PROBED = "0.0.0.0:9385"


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def pod(name: str) -> Any:
    return read(name)["spec"]["template"]["spec"]


def container(name: str) -> Any:
    (only,) = pod(name)["containers"]
    return only


def expanded(name: str, index: str) -> dict[str, str]:
    """The environment of one pod, as the kubelet makes it: $(VAR) of variables defined above, and of no others."""
    made: dict[str, str] = {}
    for each in container(name)["env"]:
        source = each.get("valueFrom", {})
        if "secretKeyRef" in source:
            made[each["name"]] = SECRET[source["secretKeyRef"]["name"], source["secretKeyRef"]["key"]]
        elif "fieldRef" in source:
            made[each["name"]] = index
        else:
            value = each["value"]
            for known, text in made.items():
                value = value.replace(f"$({known})", text)
            made[each["name"]] = value
    return made


def config_of(name: str, index: int, place: Path) -> Config:
    """The config as this pod reads it."""
    environ = expanded(name, str(index))
    assert environ.pop("SYNCD_CONFIG") == "/etc/syncd/config.toml"
    place.joinpath("config.toml").write_bytes((FOLDER / "base/config.toml").read_bytes())
    return load(place / "config.toml", environ)


def test_the_pods_together_answer_for_every_part_once(tmp_path: Path) -> None:
    count = read(DAEMON)["spec"]["replicas"]
    configs = [config_of(DAEMON, index, tmp_path) for index in range(count)]
    shards = [build_settings(config.mirrors["docs"]).policy.shard for config in configs]
    assert shards == [Shard(index, count) for index in range(count)]
    assert {config.cloudflare.quota for config in configs} == {f"{1050 // count}/300s"}
    assert {config.mirrors["docs"].owner for config in configs} == {"docs"}


def test_the_job_answers_for_all_keys(tmp_path: Path) -> None:
    config = config_of(JOB, 0, tmp_path)
    assert build_settings(config.mirrors["docs"]).policy.shard == Shard(0, 1)
    assert config.cloudflare.quota == "1050/300s"
    assert config.mirrors["docs"].owner == config_of(DAEMON, 0, tmp_path).mirrors["docs"].owner


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_token_is_that_of_the_secret(tmp_path: Path, name: str) -> None:
    assert login(config_of(name, 0, tmp_path)) == ("a-token", None)
    page = (ROOT / "docs/how-to/kubernetes.md").read_text(encoding="utf-8")
    assert "kubectl create secret generic syncd --from-file=token=" in page


def test_the_index_is_the_one_that_kubernetes_gives() -> None:
    (index,) = [each for each in container(DAEMON)["env"] if each["name"] == "POD_INDEX"]
    assert index["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']"


@pytest.mark.parametrize("name", WORKLOADS)
def test_everything_a_pod_mounts_is_there_and_where_the_config_looks(tmp_path: Path, name: str) -> None:
    config = config_of(name, 0, tmp_path)
    mounts = {each["name"]: each for each in container(name)["volumeMounts"]}
    volumes = {each["name"]: each for each in pod(name)["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert mounts["docs"] == {"name": "docs", "mountPath": str(config.mirrors["docs"].path), "readOnly": True}
    assert config.state_dir.parent == Path(mounts["state"]["mountPath"])
    (config_map,) = read("base/kustomization.yaml")["configMapGenerator"]
    assert volumes["config"]["configMap"]["name"] == config_map["name"]
    assert config_map["files"] == ["config.toml"]
    assert volumes["docs"]["persistentVolumeClaim"]["claimName"] == read("base/volume.yaml")["metadata"]["name"]
    assert volumes["state"]["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_has_no_right_it_does_not_need(name: str) -> None:
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(name)["automountServiceAccountToken"] is False
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(name)["image"] == "syncd:0.1.0"


def test_the_user_is_that_of_the_image() -> None:
    user = pod(JOB)["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in (ROOT / "Containerfile").read_text()
    assert user == pod(DAEMON)["securityContext"]


def test_the_job_tries_again_only_what_may_pass_by_itself() -> None:
    rules = read(JOB)["spec"]["podFailurePolicy"]["rules"]
    actions = {code: rule["action"] for rule in rules for code in rule.get("onExitCodes", {}).get("values", [])}
    assert actions == dict.fromkeys([1, 2, 3, 4], "FailJob")
    assert pod(JOB)["restartPolicy"] == "Never", "podFailurePolicy wants it so"
    assert container(JOB)["args"][-1] == "reconcile"


def test_the_pod_monitor_chooses_the_pods_of_the_daemon() -> None:
    spec = read("components/podmonitor/podmonitor.yaml")["spec"]
    assert spec["selector"] == read(DAEMON)["spec"]["selector"]
    assert spec["selector"]["matchLabels"].items() <= read(DAEMON)["spec"]["template"]["metadata"]["labels"].items()
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in container(DAEMON)["ports"]]


def test_no_variable_of_a_pod_is_unknown_to_syncd(tmp_path: Path) -> None:
    for name in WORKLOADS:
        assert config_of(name, 0, tmp_path).mirrors.keys() == {"docs"}


def test_the_daemon_has_time_to_end() -> None:
    assert pod(DAEMON)["terminationGracePeriodSeconds"] > 5


# -- the probes


def probe(kind: str, address: str) -> bool:
    """Return whether a probe of the kubelet succeeds at the address of a daemon."""
    asked = container(DAEMON)[kind]["httpGet"]
    assert {"name": asked["port"], "containerPort": int(PROBED.rpartition(":")[2])} in container(DAEMON)["ports"]
    try:
        # The kubelet asks the address of the pod, and names it as host.
        answer = httpx.get(f"http://{address}{asked['path']}", headers={"Host": "10.1.2.3:9385"}, timeout=10)
    except httpx.TransportError:
        return False
    return answer.is_success


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[tuple[Daemon, str]]:
    """A daemon that serves its health, and where."""
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        workspace.configure(more='[web]\nmetrics_listen = "127.0.0.1:0"')
        with workspace.daemon() as daemon:
            daemon.saw("pass.done")
            yield daemon, address(daemon)


def address(daemon: Daemon) -> str:
    (event,) = daemon.events("metrics.ready")
    return str(event["url"]).removeprefix("http://").removesuffix("/metrics")


def test_the_probes_ask_where_the_config_listens(tmp_path: Path) -> None:
    assert config_of(DAEMON, 0, tmp_path).web.metrics_listen == PROBED


def test_a_daemon_in_step_is_alive_and_ready(at_work: tuple[Daemon, str]) -> None:
    _, where = at_work
    assert (probe("livenessProbe", where), probe("readinessProbe", where)) == (True, True)


def test_a_halted_mirror_makes_a_pod_unready_and_no_reason_to_restart_it(
    at_work: tuple[Daemon, str], tmp_path: Path
) -> None:
    daemon, where = at_work
    (tmp_path / "docs" / "a.md").unlink()
    daemon.saw("mirror.halted")
    assert (probe("livenessProbe", where), probe("readinessProbe", where)) == (True, False)


def test_a_daemon_that_does_not_answer_is_neither(at_work: tuple[Daemon, str]) -> None:
    daemon, where = at_work
    daemon.stop()
    assert not probe("livenessProbe", where)
    assert not probe("readinessProbe", where)
