"""The generated files of deploy/helm: `python -m tests.chart` says which would change.

With --write it writes them; with --helm PROGRAM also the one that only Helm can make:

event-normalizer/values.schema.json  the names that settings may have, from the programs
everything.yaml                      the objects of ci/everything-values.yaml, as Helm makes them

The first line of everything.yaml has a digest of what it was made from, so that a test without Helm
sees when it has to be made again.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import yaml

from normalizer.config.settings import (
    SETTING_FIELDS,
    environment_variable,
    field_meta,
    is_secret_field,
)
from projector.cli import main as projector
from tests.support.short_json import short_json

FOLDER: Final = Path(__file__).parents[1] / "deploy" / "helm"
CHART: Final = FOLDER / "event-normalizer"
RENDERED: Final = FOLDER / "everything.yaml"
HELM: Final = "v3.22.0"
KUBERNETES: Final = "1.34.0"
"""The versions that made everything.yaml."""

STOP_AFTER_DEADLINE_S: Final = 41
"""How long a `Service`, or a relay, may need after its stop's deadline if no server responds."""

SECRET_KEYS: Final = {
    "KAFKA_SASL_USERNAME",
    *(environment_variable(field.name) for field in SETTING_FIELDS if is_secret_field(field)),
}
"""Settings that come from the Secret, under their own names."""

_OWN_OF_NORMALIZER: Final = {
    "DATABASE_URL",
    "NORMALIZER_HTTP_PORT",
    "NORMALIZER_INSTANCE",
    *SECRET_KEYS,
}
_OWN_OF_PROJECTOR: Final = {"KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPICS", "PROJECTOR_PORT"}
"""Variables that the chart sets itself, or takes from another value."""


def generated() -> dict[str, str]:
    """Every generated file that needs no Helm, by its name in the chart."""
    return {"values.schema.json": _schema()}


def objects() -> list[dict[str, Any]]:
    """The objects of everything.yaml."""
    return [one for one in yaml.safe_load_all(RENDERED.read_text()) if one]


def is_called(one: dict[str, Any], kind: str, component: str) -> bool:
    """Whether an object is the one of this kind and component."""
    name: str = one["metadata"]["name"]
    return one["kind"] == kind and name == f"noetl-{component}"


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """The pod of each workload, by component."""
    for one in objects():
        if template := _template(one):
            yield one["metadata"]["labels"]["app.kubernetes.io/component"], template["spec"]


def pod_labels(component: str) -> dict[str, str]:
    """The labels that the pods of a component have."""
    (labels,) = (
        template["metadata"]["labels"]
        for one in objects()
        if one["metadata"]["labels"]["app.kubernetes.io/component"] == component
        and (template := _template(one))
    )
    return dict(labels)


def container(pod: dict[str, Any]) -> dict[str, Any]:
    """The one container of a pod."""
    (only,) = pod["containers"]
    found: dict[str, Any] = only
    return found


def variables(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """The environment of a pod, as its container lists it."""
    listed: list[dict[str, Any]] = container(pod)["env"]
    return listed


def _template(one: dict[str, Any]) -> dict[str, Any] | None:
    spec = one["spec"]
    found: dict[str, Any] | None = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return found


def first_line() -> str:
    """The first line that everything.yaml must have."""
    parts = ["Chart.yaml", "values.yaml", "ci/everything-values.yaml"]
    parts += sorted(str(path.relative_to(CHART)) for path in CHART.glob("templates/*"))
    digest = hashlib.sha256()
    for name in parts:
        digest.update(f"{name}\n".encode() + (CHART / name).read_bytes())
    return (
        f"# Generated: python -m tests.chart --write --helm helm, from {digest.hexdigest()[:16]}\n"
    )


def render(helm: str, values: Path, *, release: str = "noetl", kubernetes: str = KUBERNETES) -> str:
    """What Helm makes of the chart with a file of values. Raises CalledProcessError."""
    done = subprocess.run(
        [
            *(helm, "template", release, CHART, "--namespace", "events"),
            *("--kube-version", kubernetes, "--values", values),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def settings() -> dict[str, str]:
    """Return what `settings` may set, with texts: `normalizer config` without the chart's own."""
    described = {
        environment_variable(field.name): field_meta(field).description or ""
        for field in SETTING_FIELDS
    }
    return {name: text for name, text in described.items() if name not in _OWN_OF_NORMALIZER}


def options(command: str) -> dict[str, str]:
    """Describe what the environment may set for a command of the projector."""
    return {
        option.envvar: option.help or ""
        for option in projector.commands[command].params
        if isinstance(option, click.Option)
        and isinstance(option.envvar, str)
        and option.envvar not in _OWN_OF_PROJECTOR
    }


def _schema() -> str:
    schema = json.loads((CHART / "values.schema.json").read_text())
    parts = schema["properties"]
    for part, described in (
        (parts["settings"], settings()),
        (parts["projector"]["properties"]["settings"], options("serve")),
        (parts["maintain"]["properties"]["settings"], options("maintain")),
    ):
        part["properties"] = {
            name: {"type": "string", "description": text}
            for name, text in sorted(described.items())
        }
    # The chart computes a grace period from it, and reads digits alone.
    parts["settings"]["properties"]["NORMALIZER_STOP_TIMEOUT_S"]["pattern"] = "^([1-9][0-9]*)?$"
    _require_groups(schema, yaml.safe_load((CHART / "values.yaml").read_text()))
    return short_json(schema) + "\n"


def _require_groups(schema: dict[str, Any], values: dict[str, Any]) -> None:
    """Require what templates look into: a null of the user's takes it away with all defaults."""
    parts = schema["properties"]
    groups = {name for name in values if "properties" in parts[name]}
    if needed := sorted(groups.union(schema.get("required", ()))):
        schema["required"] = needed
    for name in groups:
        _require_groups(parts[name], values[name])


def value_rows() -> Iterator[tuple[str, str, str]]:
    """Path, default and meaning of each value. Raises KeyError for one without a comment."""
    text = (CHART / "values.yaml").read_text()
    meanings = dict(_meanings(text))

    def rows(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        if isinstance(value, dict) and path not in meanings:
            for name, part in value.items():
                yield from rows(part, (*path, name))
        else:
            yield ".".join(path), json.dumps(value), meanings[path]

    return rows(yaml.safe_load(text), ())


def _meanings(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The path of each key that stands below a comment which begins with # --, and that comment."""
    path: tuple[str, ...] = ()
    comment = ""
    for line in text.splitlines():
        words = line.strip()
        if words.startswith("# -- "):
            comment = words.removeprefix("# -- ")
        elif words and not words.startswith("#"):
            path = (*path[: (len(line) - len(words)) // 2], words.partition(":")[0])
            if comment:
                yield path, comment
                comment = ""


def main() -> None:
    """Say which files would change, or write them with --write."""
    for name, text in generated().items():
        _put(CHART / name, text)
    # Last, because Helm refuses values that the schema does not know.
    if "--helm" in sys.argv[1:]:
        helm = sys.argv[sys.argv.index("--helm") + 1]
        _put(RENDERED, first_line() + render(helm, CHART / "ci" / "everything-values.yaml"))


def _put(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        if "--write" in sys.argv[1:]:
            path.write_text(text)
        print(path.relative_to(FOLDER))  # noqa: T201 - what it is for


if __name__ == "__main__":
    main()
