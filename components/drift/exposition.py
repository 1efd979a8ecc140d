"""What a check has found, for the textfile collector of Prometheus's node exporter."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from components.drift.report import Report


def text(report: Report) -> str:
    """The content of drift.prom."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f'capsnet_drift_{name}', text, ('model', *labels), registry=registry)

    distance = gauge(
        'distance', 'Distance of what was asked from the training data, 0 to 1.', 'quantity'
    )
    threshold = gauge('threshold', 'What the distance may be.', 'quantity')
    for name, each in report.distances.items():
        distance.labels(report.model, name).set(each.value)
        threshold.labels(report.model, name).set(each.threshold)
    gauge('images', 'Images that were asked about between the last two checks.').labels(
        report.model
    ).set(report.asked)
    gauge('version', 'The version that was asked.').labels(report.model).set(int(report.version))
    gauge('checked_timestamp_seconds', 'When the last check was made.').labels(report.model).set(
        report.time
    )
    return generate_latest(registry).decode('utf-8')
