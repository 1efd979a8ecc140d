"""Tests of the benchmark of the server."""

import pytest
from benchmark_process import rows_of


@pytest.mark.slow
def test_rates_start_and_idle_time_of_a_network_with_its_first_weights(tmp_path):
    rows = rows_of(tmp_path, 'serving', '--turns', '1', '--seconds', '0.3')
    by_key = {(row['name'], row['connections']): row for row in rows}
    servers = 'server', 'server, batching'
    assert by_key.keys() == {
        *(('bare call', images) for images in (1, 32)),
        *((server, connections) for server in servers for connections in (1, 8, 32)),
    }
    assert all(0 < row['p50_ms'] <= row['p99_ms'] for row in by_key.values())
    for server in servers:
        row = by_key[server, 1]
        assert 0.5 < row['ready_s'] < 120
        assert 0 <= row['idle_cpu'] < 0.5
        assert row['over_bare'] > -0.9
