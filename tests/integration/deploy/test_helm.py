"""The chart by Helm itself, and its objects by their schemas. Both are installed only for this."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests import chart

VALUES: Final = sorted(chart.CHART.glob("ci/*-values.yaml"))
KUBERNETES_VALIDATE: Final = "kubernetes-validate==1.37.0"
MODELS: Final = {
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
    "ServiceMonitor": (
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor"
    ),
    "PrometheusRule": (
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule"
    ),
}
"""The kinds that Kubernetes does not know, and their models."""
NPM: Final = (
    *("@kubernetes-models/keda@2.0.0", "@kubernetes-models/prometheus-operator@6.0.0"),
    "typescript@5.9.3",
)
TSC: Final = ("--module", "nodenext", "--target", "es2022", "--skipLibCheck", "check.mts")

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The one that is installed, else the one that made everything.yaml."""
    if installed := shutil.which("helm"):
        return installed
    go = shutil.which("go")
    if go is None:
        pytest.skip("no helm, and no go to build it")
    folder = tmp_path_factory.mktemp("helm")
    subprocess.run(
        [go, "install", f"helm.sh/helm/v3/cmd/helm@{chart.HELM}"],
        env=os.environ | {"GOBIN": str(folder), "CGO_ENABLED": "0"},
        check=True,
    )
    return str(folder / "helm")


@pytest.fixture(scope="module")
def manifests(helm: str) -> dict[str, list[dict[str, Any]]]:
    """What Helm makes of each file of values."""
    return {
        path.stem: [one for one in yaml.safe_load_all(chart.render(helm, path)) if one]
        for path in VALUES
    }


def test_helm_finds_nothing_to_say_about_any_values(helm: str) -> None:
    for path in VALUES:
        done = subprocess.run(
            [helm, "lint", "--strict", "--quiet", chart.CHART, "--values", path],
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_objects_in_the_tree_are_what_helm_makes(
    manifests: dict[str, list[dict[str, Any]]],
) -> None:
    assert manifests["everything-values"] == chart.objects()


def test_kubernetes_takes_every_object(
    manifests: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", str(tmp_path / "venv")], check=True)
    install = ["pip", "install", "--quiet", "--python", str(python), KUBERNETES_VALIDATE]
    subprocess.run([uv, *install], check=True)
    for name, made in manifests.items():
        known = [one for one in made if one["kind"] not in MODELS]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(known))

    done = subprocess.run(
        [
            *(python.with_name("kubernetes-validate"), "--strict", "--quiet"),
            *sorted(tmp_path.glob("*.yaml")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(manifests) == 5
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_relay_that_the_chart_runs_is_missed(manifests: dict[str, list[dict[str, Any]]]) -> None:
    for values, absent in (("monitored-values", True), ("normalizer-only-values", False)):
        rules = [
            rule
            for one in manifests[values]
            if one["kind"] == "PrometheusRule"
            for group in one["spec"]["groups"]
            for rule in group["rules"]
        ]

        (down,) = (rule for rule in rules if rule.get("alert") == "RelayDown")
        assert ('absent(up{job="relay"})' in down["expr"]) is absent


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm: apt-get install npm")
def test_keda_and_the_prometheus_operator_take_every_object(
    manifests: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """The compiler refuses fields that nobody knows, the models values that are out of bounds."""
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", *NPM]
    subprocess.run(install, cwd=tmp_path, check=True)
    objects = [one for made in manifests.values() for one in made if one["kind"] in MODELS]
    (tmp_path / "check.mts").write_text("".join(_program(objects)))

    for command in (["npx", "tsc", *TSC], ["node", "check.mjs"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    assert {one["kind"] for one in objects} == set(MODELS)


def _program(objects: list[dict[str, Any]]) -> Iterator[str]:
    for kind, module in MODELS.items():
        yield f'import {{ {kind} }} from "{module}";\n'
    for one in objects:
        parts = {name: part for name, part in one.items() if name not in ("apiVersion", "kind")}
        yield f"new {one['kind']}({json.dumps(parts)}).validate();\n"
