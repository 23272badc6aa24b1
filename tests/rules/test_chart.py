"""The Helm chart agrees with the programs. It needs no Helm.

deploy/helm/everything.yaml, what Helm makes of the chart with every part on, is compared.
In the soak tests/integration/deploy/test_chart_rollout.py runs its pods, test_helm.py Helm.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import jsonschema
import pytest
import yaml

from normalizer.cli import main as normalizer
from normalizer.config import environment
from normalizer.config.settings import Settings
from projector.api.serve import ApiSettings
from projector.cli import main as projector
from tests import chart
from tests.support.command_tree import subcommands
from tests.support.promtool import run_promtool

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final[dict[str, click.Group]] = {"normalizer": normalizer, "projector": projector}
DEPLOYED: Final = ROOT / "deploy"
OBJECTS: Final = chart.objects()
PODS: Final = dict(chart.pods())
VALUES: Final = sorted(chart.CHART.glob("ci/*-values.yaml"))


def test_the_schema_of_the_values_is_as_the_code_is() -> None:
    text = (chart.CHART / "values.schema.json").read_text()

    assert {"values.schema.json": text} == chart.generated(), "type `python -m tests.chart --write`"


def test_every_value_has_its_meaning() -> None:
    assert len(list(chart.value_rows())) > 40


def test_the_objects_are_made_of_this_chart() -> None:
    first = chart.RENDERED.read_text().partition("\n")[0] + "\n"

    assert first == chart.first_line(), (
        "the chart has changed: type `python -m tests.chart --write --helm helm`; Helm is "
        "`go install helm.sh/helm/v3/cmd/helm@" + chart.HELM + "`"
    )


@pytest.mark.parametrize("name", PODS)
def test_every_variable_is_one_that_the_program_reads(name: str) -> None:
    container = chart.container(PODS[name])
    program, command, *_ = container["command"]

    given = {one["name"] for one in container["env"]}

    known = {"DATABASE_URL", "NORMALIZER_INSTANCE", *chart.settings(), *chart.SECRET_KEYS}
    if program == "projector":
        known = {"DATABASE_URL", *chart.options(command)}
    if command == "serve":
        known |= {"PROJECTOR_TOKEN", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPICS"}
    assert given <= known
    assert len(given) == len(container["env"]), "a variable is set twice"


def test_each_member_of_a_consumer_group_is_named_after_its_pod() -> None:
    name = {
        "name": "NORMALIZER_INSTANCE",
        "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
    }

    assert {one for one in PODS if name in chart.variables(PODS[one])} == {"normalizer", "relay"}


def test_the_settings_of_a_normalizer_are_accepted_as_they_stand() -> None:
    pod = PODS["normalizer"]
    texts = {one["name"]: one.get("value", "postgresql://w@db/n") for one in chart.variables(pod)}
    texts = {name: text for name, text in texts.items() if name not in chart.SECRET_KEYS}

    read = environment.load_settings(texts, needs=("database_url", "kafka_bootstrap_servers"))

    assert environment.unknown_variables(texts) == []
    assert pod["terminationGracePeriodSeconds"] > read.stop_timeout_s + chart.STOP_AFTER_DEADLINE_S


def test_each_pod_gets_the_login_that_it_needs_and_no_other() -> None:
    keys = {
        name: {
            one["valueFrom"]["secretKeyRef"]["key"]: one["name"]
            for one in chart.variables(pod)
            if "secretKeyRef" in one.get("valueFrom", ())
        }
        for name, pod in PODS.items()
    }
    kafka = {key: key for key in chart.SECRET_KEYS}

    assert keys == {
        "normalizer": {"WRITER_URL": "DATABASE_URL", **kafka},
        "projector": {"READER_URL": "DATABASE_URL", "PROJECTOR_TOKEN": "PROJECTOR_TOKEN"},
        "relay": kafka,
        "migrate": {"OWNER_URL": "DATABASE_URL"},
        "maintain": {"OWNER_URL": "DATABASE_URL"},
        "verify": {"OWNER_URL": "DATABASE_URL"},
        "backfill": {"OWNER_URL": "DATABASE_URL", **kafka},
    }
    page = (chart.CHART / "README.md").read_text()
    assert {key for one in keys.values() for key in one} == set(
        re.findall(r"^\| `(\w+)` \| \w+", page, re.MULTILINE)
    )


@pytest.mark.parametrize("name", PODS)
def test_every_command_is_one_that_there_is(name: str) -> None:
    program, *words = chart.container(PODS[name])["command"]
    command: click.Command = PROGRAMS[program]

    while isinstance(command, click.Group):
        command = subcommands(command)[words.pop(0)]
    command.make_context(command.name, list(words))


def test_a_scheduled_run_that_hangs_does_not_keep_the_next_ones_from_starting() -> None:
    """No other run starts beside it. What a person starts may take as long as it takes."""
    jobs = [one["spec"] for one in OBJECTS if one["kind"] == "CronJob"]

    assert {one["concurrencyPolicy"] for one in jobs} == {"Forbid"}
    for one in jobs:
        ends = "activeDeadlineSeconds" in one["jobTemplate"]["spec"]
        assert ends is not one.get("suspend", False)


def test_a_node_is_drained_in_an_outage_too() -> None:
    """No normalizer is ready then, and pods that aren't ready may always be evicted."""
    budgets = [one["spec"] for one in OBJECTS if one["kind"] == "PodDisruptionBudget"]

    assert {one["maxUnavailable"] for one in budgets} == {1}
    assert {one.get("unhealthyPodEvictionPolicy") for one in budgets} == {"AlwaysAllow"}


def test_each_port_is_the_one_that_its_program_listens_on() -> None:
    ports = {"normalizer": Settings().http_port, "projector": ApiSettings(database_url="").port}

    for name, port in ports.items():
        assert chart.container(PODS[name])["ports"] == [{"name": "http", "containerPort": port}]
        host = {"normalizer": "NORMALIZER_HTTP_HOST", "projector": "PROJECTOR_HOST"}[name]
        assert {"name": host, "value": ".".join("0000")} in chart.variables(PODS[name])
        (service,) = (one for one in OBJECTS if chart.is_called(one, "Service", name))
        assert service["spec"]["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]


@pytest.mark.parametrize("name", PODS)
def test_every_pod_is_locked_down(name: str) -> None:
    pod = PODS[name]
    container = chart.container(pod)

    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "PROJECTOR_PORT would be the address of a Service"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert str(pod["securityContext"]["runAsUser"]) in (ROOT / "Dockerfile").read_text()
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} <= container["resources"].keys()
    assert "memory" in container["resources"]["limits"]


def test_selectors_choose_the_pods_of_their_component_alone() -> None:
    labels = {name: chart.pod_labels(name) for name in PODS}

    for one in OBJECTS:
        spec = one["spec"]
        selector = spec.get("selector") or spec.get("podSelector")
        if one["kind"] not in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"):
            continue
        wanted = selector.get("matchLabels", selector)
        component = wanted.get("app.kubernetes.io/component")
        chosen = {name for name, has in labels.items() if wanted.items() <= has.items()}
        assert chosen == ({component} if component else set(PODS)), one["metadata"]["name"]


def test_jobs_have_as_much_memory_in_compose_as_here() -> None:
    """One record of the greatest size takes 700 MB, in a container too."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    (jobs,) = (value for path, value, _ in chart.value_rows() if path == "jobs.resources")

    here = json.loads(jobs)["limits"]["memory"]
    assert f"{services['maintain']['deploy']['resources']['limits']['memory']}i" == here


def test_prometheus_calls_the_jobs_as_the_alerts_do() -> None:
    monitors = [one for one in OBJECTS if one["kind"] == "ServiceMonitor"]
    named = re.findall(r'job=~?"([^"]+)"', "".join(map(Path.read_text, _rule_files())))

    for monitor in monitors:
        assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/component"
    jobs = {one["metadata"]["labels"]["app.kubernetes.io/component"] for one in monitors}
    assert {job for one in named for job in one.split("|")} <= jobs


def _rule_files() -> list[Path]:
    return sorted((chart.CHART / "files" / "rules").iterdir())


def test_rules_and_dashboards_are_those_of_compose_and_no_copy() -> None:
    served = yaml.safe_load((DEPLOYED / "prometheus" / "prometheus.yml").read_text())["rule_files"]

    assert [path.name for path in _rule_files()] == sorted(served)
    for path in _rule_files():
        assert path.resolve() == DEPLOYED / "prometheus" / path.name
    dashboards = chart.CHART / "files" / "dashboards"
    assert dashboards.resolve() == DEPLOYED / "grafana" / "dashboards"


def test_each_placeholder_of_the_chart_is_in_the_rules_once() -> None:
    """Helm replaces a text that is not there without a word."""
    template = (chart.CHART / "templates" / "monitoring.yaml").read_text()
    _, _, of_rules = template.partition("not $.Values.projector.enabled")
    replaced = re.findall(r"replace `([^`]+)`", of_rules.partition("kind: PrometheusRule")[0])
    rules = "".join(map(Path.read_text, _rule_files()))

    assert len(replaced) == 3
    assert [rules.count(one) for one in replaced] == [1, 1, 1]


def test_the_autoscaler_wants_what_the_unread_records_need_and_no_more_than_partitions(
    tmp_path: Path,
) -> None:
    (scaled,) = (one for one in OBJECTS if one["kind"] == "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    # While the lag is unknown there is no value, and the number of pods has to stay.
    assert trigger["metadata"]["ignoreNullValues"] == "false"

    def test(unread: int | None, pods: float) -> dict[str, Any]:
        own = 'job="normalizer",namespace="events"'
        instances = (f'instance="a",{own}', f'instance="b",{own}')
        series = {
            f'normalizer_lag_records{{topic="noetl.events",partition="{partition}",{one}}}'
            for partition in range(3)
            for one in instances
        }
        if unread is not None:
            series |= {f"normalizer_work_remaining_records{{{one}}}" for one in instances}
        values = dict.fromkeys(sorted(series), f"{unread or 1}x5")
        values['normalizer_work_remaining_records{job="relay",namespace="events"}'] = "9e9x5"
        return {
            "interval": "1m",
            "input_series": [{"series": one, "values": text} for one, text in values.items()],
            "promql_expr_test": [
                {
                    "expr": query,
                    "eval_time": "3m",
                    "exp_samples": [{"labels": "{}", "value": pods}] if pods else [],
                }
            ],
        }

    tests = [test(20_000, 0.2), test(150_000, 1.5), test(9_000_000, 3), test(None, 0)]
    file = {"rule_files": ["rules.yml"], "tests": tests}
    run_promtool(tmp_path, "test", "rules", "test.yml", rules={"groups": []}, test=file)
    assert trigger["metadata"]["threshold"] == "1"
    assert scaled["spec"]["minReplicaCount"] > 0, "the pods themselves report what is unread"


def _merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """As Helm merges: maps by key, all else is replaced, null takes away."""
    both = {
        name: _merged(values.get(name, {}), value) if isinstance(value, dict) else value
        for name, value in more.items()
    }
    return {name: value for name, value in (values | both).items() if value is not None}


def _rejections(more: dict[str, Any]) -> Iterator[str]:
    defaults = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    for error in jsonschema.Draft7Validator(schema).iter_errors(_merged(defaults, more)):
        yield f"{'.'.join(map(str, error.absolute_path))}: {error.message}"


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_the_schema_takes_every_file_of_values(path: Path) -> None:
    assert list(_rejections(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"settings": {"NORMALIZER_BATCH_ROW": "2"}}, "settings"),
        ({"settings": {"NORMALIZER_BATCH_ROWS": 2}}, "settings.NORMALIZER_BATCH_ROWS"),
        ({"settings": {"KAFKA_SASL_PASSWORD": "hidden"}}, "settings"),
        ({"settings": {"DATABASE_URL": "postgresql://w@db/n"}}, "settings"),
        ({"maintain": {"settings": {"PROJECTOR_KEEP_EVENT": "90d"}}}, "maintain.settings"),
        ({"normaliser": {"replicas": 3}}, ""),
        ({"normalizer": {"replica": 3}}, "normalizer"),
        ({"autoscaling": {"minReplicas": 0}}, "autoscaling.minReplicas"),
        ({"settings": None}, ""),
        ({"pod": None}, ""),
        ({"maintain": {"settings": None}}, "maintain"),
        ({"settings": {"NORMALIZER_STOP_TIMEOUT_S": "6e1"}}, "settings.NORMALIZER_STOP_TIMEOUT_S"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_the_schema_refuses_what_no_program_knows(more: dict[str, Any], place: str) -> None:
    (rejection,) = _rejections(more)

    assert rejection.startswith(f"{place}: ")


def test_one_version_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())

    assert (about["version"], about["appVersion"]) == (version, version)
