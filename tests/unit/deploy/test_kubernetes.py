"""deploy/kubernetes/ fits syncd: its config loads, its shards are all there, its probes ask a daemon that runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from syncd.config.schema import Config
from syncd.config.sources import load, login
from syncd.core.key_digests import Shard
from syncd.service.build import build_settings
from tests.e2e.harness import Daemon, open_workspace

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
WORKLOADS = ["statefulset.yaml", "job.yaml"]
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
            made[each["name"]] = secret()[source["secretKeyRef"]["key"]]
        elif "fieldRef" in source:
            made[each["name"]] = index
        else:
            value = each["value"]
            for known, text in made.items():
                value = value.replace(f"$({known})", text)
            made[each["name"]] = value
    return made


def secret() -> dict[str, str]:
    found: dict[str, str] = read("secret.example.yaml")["stringData"]
    return found


def config_of(name: str, index: int, place: Path) -> Config:
    """The config as this pod reads it."""
    file = place / "config.toml"
    file.write_text(read("config.yaml")["data"]["config.toml"], encoding="utf-8")
    environ = expanded(name, str(index))
    assert environ.pop("SYNCD_CONFIG") == "/etc/syncd/config.toml"
    return load(file, environ)


def replicas(name: str) -> int:
    spec = read(name)["spec"]
    return int(spec["replicas"] if "replicas" in spec else spec["completions"])


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_pods_together_answer_for_every_part_once(tmp_path: Path, name: str) -> None:
    count = replicas(name)
    shards = [build_settings(config_of(name, index, tmp_path).mirrors["docs"]).policy.shard for index in range(count)]
    assert shards == [Shard(index, count) for index in range(count)]
    assert login(config_of(name, 0, tmp_path)) == (secret()["token"], None)


def test_both_name_as_many_parts_and_divide_the_rate_by_them(tmp_path: Path) -> None:
    counts = {replicas(name) for name in WORKLOADS} | {read("job.yaml")["spec"]["parallelism"]}
    (count,) = counts
    assert config_of("job.yaml", 0, tmp_path).cloudflare.quota == f"{1050 // count}/300s"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("statefulset.yaml", "metadata.labels['apps.kubernetes.io/pod-index']"),
        ("job.yaml", "metadata.annotations['batch.kubernetes.io/job-completion-index']"),
    ],
)
def test_the_index_is_the_one_that_kubernetes_gives(name: str, path: str) -> None:
    (index,) = [each for each in container(name)["env"] if each["name"] == "POD_INDEX"]
    assert index["valueFrom"]["fieldRef"]["fieldPath"] == path


@pytest.mark.parametrize("name", WORKLOADS)
def test_everything_a_pod_mounts_is_there_and_where_the_config_looks(tmp_path: Path, name: str) -> None:
    config = config_of(name, 0, tmp_path)
    mounts = {each["name"]: each for each in container(name)["volumeMounts"]}
    volumes = {each["name"]: each for each in pod(name)["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert mounts["docs"] == {"name": "docs", "mountPath": str(config.mirrors["docs"].path), "readOnly": True}
    assert config.state_dir.parent == Path(mounts["state"]["mountPath"])
    assert volumes["config"]["configMap"]["name"] == read("config.yaml")["metadata"]["name"]
    assert volumes["docs"]["persistentVolumeClaim"]["claimName"] == read("volume.yaml")["metadata"]["name"]
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
    user = pod("job.yaml")["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in (ROOT / "Containerfile").read_text()
    assert user == pod("statefulset.yaml")["securityContext"]


def test_the_job_tries_again_only_what_may_pass_by_itself() -> None:
    rules = read("job.yaml")["spec"]["podFailurePolicy"]["rules"]
    actions = {code: rule["action"] for rule in rules for code in rule.get("onExitCodes", {}).get("values", [])}
    assert actions == {1: "FailIndex", 2: "FailJob", 3: "FailJob", 4: "FailJob"}
    assert pod("job.yaml")["restartPolicy"] == "Never", "podFailurePolicy wants it so"
    assert container("job.yaml")["args"][-1] == "reconcile"


def test_no_variable_of_a_pod_is_unknown_to_syncd(tmp_path: Path) -> None:
    for name in WORKLOADS:
        assert config_of(name, 0, tmp_path).mirrors.keys() == {"docs"}


def test_the_daemon_has_time_to_end() -> None:
    assert pod("statefulset.yaml")["terminationGracePeriodSeconds"] > 5


# -- the probes


def probe(kind: str, address: str) -> bool:
    """Return whether a probe of the kubelet succeeds at the address of a daemon."""
    asked = container("statefulset.yaml")[kind]["httpGet"]
    assert {"name": asked["port"], "containerPort": int(PROBED.rpartition(":")[2])} in container("statefulset.yaml")[
        "ports"
    ]
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
    assert config_of("statefulset.yaml", 0, tmp_path).web.metrics_listen == PROBED


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
