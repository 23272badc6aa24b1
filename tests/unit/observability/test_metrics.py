"""The catalogue of metrics, and closed labels that stand at zero."""

from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition, parser

from normalizer.observability.metric_catalog import (
    DRIFT_KINDS,
    METRICS,
    SQLSTATE_CLASSES,
)
from normalizer.observability.service_metrics import ServiceMetrics
from normalizer.up.service_processes import _Merged


def test_names_are_said_once_and_tell_kind_and_unit() -> None:
    names = [metric.name for metric in METRICS]

    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.startswith("normalizer_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.means.endswith(".")
        assert metric.hint.endswith(".")


def test_counters_start_at_zero() -> None:
    said = generate_latest(ServiceMetrics().registry).decode()

    for sqlstate_class in SQLSTATE_CLASSES:
        assert f'normalizer_retries_total{{sqlstate_class="{sqlstate_class}"}} 0.0' in said
    for kind in DRIFT_KINDS:
        assert f'normalizer_drift_total{{kind="{kind}",shape="worker"}} 0.0' in said
    assert 'normalizer_batches_total{closed_by="age"} 0.0' in said


def test_a_retry_is_counted_by_the_class_of_its_code() -> None:
    metrics = ServiceMetrics()

    for code in ("40P01", "40001", "57P01", None, "22003", "XX000", "XX001"):
        metrics.count_retry(code)

    counts = {
        sample.labels["sqlstate_class"]: sample.value
        for family in metrics.retries.collect()
        for sample in family.samples
    }
    assert (counts["40"], counts["57"], counts["none"], counts["08"]) == (2, 1, 1, 0)
    assert (counts["other"], counts["XX"], counts["XX001"]) == (1, 1, 1)


def test_the_metrics_of_several_processes_keep_their_exemplars() -> None:
    metrics = ServiceMetrics()
    metrics.commit_seconds.observe(0.01, {"trace_id": "a" * 32})
    text = exposition.generate_latest(metrics.registry)  # type: ignore[no-untyped-call]

    merged = _Merged([(0, 200, text), (1, 503, b"")])

    found = [
        (sample.labels["process"], sample.exemplar.labels)
        for family in merged.collect()
        for sample in family.samples
        if sample.exemplar
    ]
    assert found == [("0", {"trace_id": "a" * 32})]


def test_openmetrics_has_the_same_samples() -> None:
    metrics = ServiceMetrics()
    metrics.commit_seconds.observe(0.01, {"trace_id": "a" * 32})

    text = exposition.generate_latest(metrics.registry).decode()  # type: ignore[no-untyped-call]

    samples = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    plain = generate_latest(metrics.registry).decode().splitlines()
    assert len(samples) == len([line for line in plain if not line.startswith("#")])
    assert '# {trace_id="' in text
