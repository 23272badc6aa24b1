"""compose.yaml, the Dockerfile, and Prometheus' file agree with the code. It needs no engine.

The Compose client itself reads compose.yaml: what it makes of anchors and variables is compared.
"""

import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from normalizer.cli import main as normalizer
from normalizer.config import environment
from normalizer.config.settings import SETTING_FIELDS, Settings, environment_variable
from projector.api import serve_command
from projector.api.serve import ApiSettings
from projector.api.serve_command import serve
from projector.cli import main as projector
from simulator.__main__ import main as simulator
from tests import chart
from tests.support.command_tree import subcommands
from tests.support.promtool import run_promtool

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
JOBS = {"topic", "migrate", "demo", "maintain"}
"""Run to an end, or listen to nobody: they have no health to ask for."""
OURS = {"migrate", "normalizer", "projector", "maintain", "demo"}
PROGRAMS: dict[str, click.Group] = {"normalizer": normalizer, "projector": projector}


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made as an operator makes it."""
    folder = tmp_path_factory.mktemp("env")
    _make_env(folder)
    return folder / ".env"


def _make_env(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--silent", "--file", str(ROOT / "Makefile"), "env", f"PYTHON={sys.executable}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def _compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    client = Path(sys.executable).with_name("docker-compose")
    return subprocess.run(
        [client, "--project-directory", ROOT, *arguments],
        env={"HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def compose(env_file: Path) -> dict[str, Any]:
    """Return the Compose client's view of compose.yaml, with every profile."""
    done = _compose("--env-file", str(env_file), "--profile", "*", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def test_env_is_made_once_with_secrets_of_its_own_that_only_its_owner_reads(
    env_file: Path, tmp_path: Path
) -> None:
    _make_env(tmp_path)
    one, other = (dict(_variables(path)) for path in (env_file, tmp_path / ".env"))

    assert set(one) == set(re.findall(r"\$\{(\w+):\?", (ROOT / "compose.yaml").read_text()))
    assert all(len(value) >= 32 for value in one.values())
    assert set(one.values()).isdisjoint(other.values())
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    again = _make_env(tmp_path)
    assert again.returncode != 0
    assert "stays" in again.stdout
    assert dict(_variables(tmp_path / ".env")) == other


def _variables(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        name, _, value = line.partition("=")
        yield name, value


def test_without_env_it_says_what_to_type(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()

    done = _compose("--env-file", str(empty), "config")

    assert done.returncode != 0
    assert "make env" in done.stderr


def test_no_secret_stands_in_a_file_of_ours() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert ".env" in ignored
    for path in [ROOT / "compose.yaml", *(ROOT / "deploy").rglob("*.yaml")]:
        assert not re.search(r"(?im)^\s*\w*(password|token): *(?!false$)[^\s$]", path.read_text())


def test_every_container_is_locked_down(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] not in ("", "0", "root"), name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert service["logging"]["options"]["max-size"], name


def test_every_service_of_compose_has_a_health_check_that_start_awaits(
    services: dict[str, Any],
) -> None:
    healthy = {name for name, one in services.items() if "healthcheck" in one}

    assert healthy == set(services) - JOBS
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            assert condition != "service_started", f"{name} waits for no health of {needed}"
            assert (condition == "service_healthy") == (needed in healthy), (name, needed)


def test_only_this_machine_gets_at_the_ports(services: dict[str, Any]) -> None:
    published = {
        name: [(one["host_ip"], int(one["published"]), one["target"]) for one in service["ports"]]
        for name, service in services.items()
        if "ports" in service
    }

    assert published == {
        "projector": [("127.0.0.1", ApiSettings(database_url="").port, _projector_port())],
        "prometheus": [("127.0.0.1", 9090, 9090)],
        "grafana": [("127.0.0.1", 3000, 3000)],
    }
    # Replicas could not share a port of the machine.
    assert "ports" not in services["normalizer"]
    assert "container_name" not in services["normalizer"]


def _projector_port() -> int:
    (option,) = (one for one in serve.params if one.name == "port")
    assert option.default == ApiSettings(database_url="").port
    return ApiSettings(database_url="").port


def test_only_who_uses_a_server_shares_a_network_with_it(compose: dict[str, Any]) -> None:
    services = compose["services"]
    of = {
        network: {name for name, one in services.items() if network in one["networks"]}
        for network in compose["networks"]
    }
    named = {
        address: {name for name, one in services.items() if address in json.dumps(one)}
        for address in ("kafka:9092", "postgres:5432")
    }

    # The projector shows the address of Kafka and connects to PostgreSQL alone.
    assert of["stream"] == named["kafka:9092"] - {"projector"}
    # Grafana has the address in a file of its own.
    assert of["database"] == named["postgres:5432"] | {"postgres", "grafana"}
    assert of["metrics"] == {"normalizer", "projector", "prometheus", "grafana"}
    assert {name for name, one in compose["networks"].items() if not one.get("internal")} == {
        "metrics"
    }
    assert {name for name, one in services.items() if "ports" in one} <= of["metrics"]


def test_images_of_others_have_a_version_and_those_that_watch_a_digest(
    services: dict[str, Any],
) -> None:
    images = {name: one["image"] for name, one in services.items() if name not in OURS}

    for name, image in images.items():
        assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)*(@sha256:[0-9a-f]{64})?", image), name
    assert "@" in images["prometheus"]
    assert "@" in images["grafana"]


def test_every_variable_of_ours_is_one_that_the_code_reads(services: dict[str, Any]) -> None:
    known = {environment_variable(field.name) for field in SETTING_FIELDS}
    of_projector = {"DATABASE_URL", "PROJECTOR_TOKEN"} | {
        option.envvar
        for one in projector.commands.values()
        for option in one.params
        if isinstance(option.envvar, str)
    }

    assert '"PROJECTOR_TOKEN"' in inspect.getsource(serve_command)
    for name in OURS:
        service = services[name]
        # The owner types commands of both programs there.
        program = "both" if name == "maintain" else service["command"][0]
        given = set(service.get("environment", {}))
        read = {"normalizer": known, "projector": of_projector, "both": known | of_projector}
        assert given <= read.get(program, set()), name


def test_the_settings_of_the_normalizer_are_accepted_as_they_stand(
    services: dict[str, Any],
) -> None:
    needs = ("database_url", "kafka_bootstrap_servers")

    read = environment.load_settings(services["normalizer"]["environment"], needs=needs)

    assert environment.unknown_variables(services["normalizer"]["environment"]) == []
    assert read.kafka_bootstrap_servers == ("kafka:9092",)
    grace = services["normalizer"]["stop_grace_period"]
    assert grace == "1m5s"
    assert read.stop_timeout_s + chart.STOP_AFTER_DEADLINE_S < 65


def test_compose_passes_redact_keys_and_shapes_to_maintain_too() -> None:
    """Else `redact` and a redrive, typed in `maintain`, leave what the service redacts."""
    text = (ROOT / "compose.yaml").read_text()
    for name in ("NORMALIZER_REDACT_KEYS", "NORMALIZER_SHAPES"):
        said = text.replace(f'{name}: ""\n', f"{name}: this\n")
        services = yaml.safe_load(said)["services"]
        for service in ("normalizer", "maintain"):
            assert services[service]["environment"].get(name) == "this", (service, name)
        assert text.count(name) == 1


def test_every_command_is_one_that_there_is(services: dict[str, Any]) -> None:
    for name in OURS:
        program, *arguments = services[name]["command"]
        if program == "python":
            assert arguments[:2] == ["-m", "simulator"]
            _parse(simulator, arguments[2:])
        else:
            _parse(PROGRAMS[program], arguments)


def _parse(group: click.Group, arguments: list[str]) -> None:
    """As typed, up to the point where it would begin to work. Raises UsageError."""
    name, *rest = arguments
    subcommands(group)[name].make_context(name, rest)


def test_the_topic_that_is_made_is_the_one_that_is_read_and_played_to(
    services: dict[str, Any],
) -> None:
    made = re.search(r"--topic=(\S+)", " ".join(services["topic"]["command"]))
    played = re.search(r"--topic=(\S+)", " ".join(services["demo"]["command"]))

    assert made is not None
    assert played is not None
    assert [made[1]] == [played[1]] == [services["normalizer"]["environment"]["KAFKA_TOPICS"]]
    assert Settings().kafka_topics == (made[1],)


def test_health_is_requested_where_it_is_answered(services: dict[str, Any]) -> None:
    ports = {"normalizer": Settings().http_port, "projector": _projector_port()}

    for name, port in ports.items():
        *_, code = services[name]["healthcheck"]["test"]
        assert f"'http://localhost:{port}/readyz'" in code
        compile(code, name, "exec")
        assert services[name]["environment"][f"{name.upper()}_{_HOST[name]}"] == _EVERYWHERE


_EVERYWHERE = ".".join("0000")
_HOST = {"normalizer": "HTTP_HOST", "projector": "HOST"}


def test_prometheus_scrapes_the_ports_that_answer() -> None:
    read = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    normalizer_job, projector_job = read["scrape_configs"]

    assert normalizer_job["dns_sd_configs"][0]["names"] == ["normalizer"]
    assert normalizer_job["dns_sd_configs"][0]["port"] == Settings().http_port
    assert projector_job["static_configs"] == [{"targets": [f"projector:{_projector_port()}"]}]
    rules = {path.name for path in (ROOT / "deploy" / "prometheus").iterdir()} - {"prometheus.yml"}
    assert set(read["rule_files"]) == rules
    assert {normalizer_job["job_name"], projector_job["job_name"]} == {"normalizer", "projector"}


def test_prometheus_takes_its_file() -> None:
    run_promtool(ROOT / "deploy" / "prometheus", "check", "config", "prometheus.yml")


def test_grafana_finds_its_sources(services: dict[str, Any]) -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "sources.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "folder.yaml").read_text())["providers"]
    by_uid = {one["uid"]: one for one in sources}
    mounts = {one["target"]: Path(one["source"]) for one in services["grafana"]["volumes"]}
    environment = services["grafana"]["environment"]
    password = by_uid["projector"]["secureJsonData"]["password"]

    assert by_uid["projector"]["url"] == "postgres:5432"
    assert (
        by_uid["projector"]["jsonData"]["database"]
        == (services["postgres"]["environment"]["POSTGRES_DB"])
    )
    assert (
        environment[password.removeprefix("$")]
        == (services["postgres"]["environment"]["READER_PASSWORD"])
    )
    assert by_uid["prometheus"]["url"] == "http://prometheus:9090"
    dashboards = mounts[provider["options"]["path"]]
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (dashboards / home.name).exists()
    assert home.parent == Path(provider["options"]["path"])


def test_the_image_runs_what_is_installed_as_nobody_in_particular() -> None:
    bases = re.findall(r"^FROM (\S+) AS", DOCKERFILE, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runs = json.loads(re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[0])

    # Packages installed in one stage run with the Python of the other.
    assert bases == ["${PYTHON}", "${PYTHON}", "runtime", "runtime"]
    assert re.search(r"^ARG PYTHON=\S+:3\.\d+-slim@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert set(project["scripts"]) == {*PROGRAMS, "event-normalizer"}
    assert runs[0] in project["scripts"]
    _parse(PROGRAMS[runs[0]], runs[1:])
    user = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)[-1]
    assert user == _resolved_user()
    assert int(user) > 0


def _resolved_user() -> str:
    read: str = yaml.safe_load((ROOT / "compose.yaml").read_text())["x-ours"]["user"]
    return read


def test_everything_that_the_image_installs_is_locked() -> None:
    runs = re.sub(r"\\\n\s*", "", DOCKERFILE)
    installs = re.findall(r"bin/pip (?:--python \S+ )?(?:install|wheel) [^&\n]*", runs)

    assert len(installs) == 4
    for one in installs:
        assert "--require-hashes" in one or "--no-deps" in one, one
    assert "--no-build-isolation" in runs


def test_one_version_everywhere(services: dict[str, Any]) -> None:
    images = {name: services[name]["image"] for name in OURS}

    assert images.pop("demo") == f"event-normalizer-demo:{VERSION}"
    assert set(images.values()) == {f"event-normalizer:{VERSION}"}
    assert f'org.opencontainers.image.version="{VERSION}"' in DOCKERFILE
    for program in PROGRAMS.values():
        assert VERSION in CliRunner().invoke(program, ["--version"]).output
