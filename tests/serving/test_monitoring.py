"""The alert rules and the dashboard ask for what the server and `make drift` export."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import yaml
from project_paths import ROOT
from prometheus_client.parser import text_string_to_metric_families

from components.drift import distances, exposition, quantities
from components.drift.report import Report
from serving.metrics import Metrics
from serving.request_log.files import RequestLogOptions
from serving.request_log.log import RequestLog

_CONFIG = ROOT / 'serving' / 'config'
_NAME = re.compile(r'(?<![\w:])(?:capsnet_drift_|:tensorflow:serving:)[\w:]+')
_PROMTOOL = shutil.which('promtool') or ''


def _expressions():
    rules = yaml.safe_load((_CONFIG / 'alerts.yml').read_text())
    yield from (rule['expr'] for group in rules['groups'] for rule in group['rules'])
    dashboard = json.loads((_CONFIG / 'dashboard.json').read_text())
    yield from (target['expr'] for panel in dashboard['panels'] for target in panel['targets'])
    for variable in dashboard['templating']['list']:
        if variable['type'] == 'query':
            yield variable['query']['query']


def _labels(page):
    """The labels of each exported sample, by its name."""
    return {
        # The parser appends this to the names of counters.
        sample.name.removesuffix('_total'): {*sample.labels}
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    log = RequestLog(RequestLogOptions(1.0, str(tmp_path_factory.mktemp('log') / 'requests')))
    metrics = Metrics(log)
    metrics.request('digits', 'predict', 'OK', 0.001)
    metrics.runtime('digits', 'predict', 0.001)
    metrics.input(1)
    metrics.batch('pool', [0.001], 1, 0)
    log.close()
    own = {name: np.arange(100.0) for name in quantities.NUMERIC}
    own |= {name: np.array(['a'] * 100) for name in quantities.CATEGORICAL}
    report = Report('digits', '7', 0.0, 100, {}, distances.compare(own, own), own, own)
    return {**_labels(metrics.page().decode()), **_labels(exposition.text(report))}


def test_every_metric_that_is_asked_for_is_exported_with_its_labels(exported):
    asked = {name for expression in _expressions() for name in _NAME.findall(expression)}
    assert asked <= exported.keys()
    # All of drift.prom is shown.
    assert {name for name in exported if name.startswith('capsnet_drift_')} <= asked
    labels = set.union(*exported.values())
    for expression in _expressions():
        for grouped in re.findall(r'(?:by|on) \(([^)]*)\)', expression):
            assert {name.strip() for name in grouped.split(',')} <= labels
        for name, selected in re.findall(r'([\w:]+)\{(\w+)[!=~]', expression):
            assert selected in exported[name]


def test_panels_are_at_places_of_their_own():
    panels = json.loads((_CONFIG / 'dashboard.json').read_text())['panels']
    places = [
        (x, panel['gridPos']['y'])
        for panel in panels
        for x in range(panel['gridPos']['x'], panel['gridPos']['x'] + panel['gridPos']['w'])
    ]
    assert len(places) == len({*places})
    assert {panel['id'] for panel in panels} == {*range(1, len(panels) + 1)}


def _promtool(*arguments):
    done = subprocess.run(
        [_PROMTOOL, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not _PROMTOOL, reason='promtool is not installed (Debian: prometheus)')
def test_promtool_accepts_the_rules(tmp_path):
    rules = _CONFIG / 'alerts.yml'
    _promtool('check', 'rules', rules)
    series = [
        ('capsnet_drift_distance{model="m",quantity="ink"}', '0.3'),
        ('capsnet_drift_threshold{model="m",quantity="ink"}', '0.1'),
        ('capsnet_drift_distance{model="m",quantity="score"}', '0.05'),
        ('capsnet_drift_threshold{model="m",quantity="score"}', '0.1'),
    ]
    test = {
        'rule_files': [str(rules)],
        'tests': [
            {
                'input_series': [
                    {'series': name, 'values': f'{value}x5'} for name, value in series
                ],
                'promql_expr_test': [
                    {
                        'expr': 'count by (quantity) (ALERTS{alertname="CapsnetDrift"})',
                        'eval_time': '2m',
                        'exp_samples': [{'labels': '{quantity="ink"}', 'value': 1}],
                    }
                ],
            }
        ],
    }
    (tmp_path / 'test.yml').write_text(yaml.safe_dump(test))
    _promtool('test', 'rules', tmp_path / 'test.yml')
