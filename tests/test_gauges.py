"""Figures of a batcher, as values and as Prometheus text."""

from __future__ import annotations

import math
import re
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune import Candidate
from autotune.gauges import ROW_BOUNDS, WAIT_BOUNDS_S, Figures, Histogram, Tally
from tests.batchers import doubler, numbered, serve


@given(values=st.lists(st.floats(0, 1e6), max_size=50), share=st.floats(0.01, 0.99))
def test_a_histogram_knows_its_values_to_a_bucket(values: list[float], share: float) -> None:
    """Count and sum are exact; a quantile lies in the bucket of the true one."""
    tally = Tally(ROW_BOUNDS)
    for value in values:
        tally.add(value)
    histogram = tally.snapshot()
    assert histogram.count == len(values)
    assert histogram.total == pytest.approx(sum(values))
    if not values:
        assert math.isnan(histogram.quantile(share))
        assert math.isnan(histogram.mean)
        return
    true = min(float(np.quantile(values, share, method="inverted_cdf")), ROW_BOUNDS[-1])
    upper = next(bound for bound in ROW_BOUNDS if bound >= true)
    lower = max((bound for bound in (0.0, *ROW_BOUNDS) if bound < upper), default=0.0)
    assert lower <= histogram.quantile(share) <= upper


def test_bounds_rise() -> None:
    """Buckets are in order, without gaps."""
    for bounds in (ROW_BOUNDS, WAIT_BOUNDS_S):
        assert list(bounds) == sorted(set(bounds))


def test_prometheus_reads_what_is_written() -> None:
    """Each figure has help, type and value; buckets pile up to the count."""
    _, batcher = serve(Candidate(4), model=doubler())
    with batcher:
        for number in range(5):
            batcher.submit(numbered(number, 2)).result(60)
    text = batcher.prometheus()
    line = re.compile(r'# (HELP|TYPE) \w+ .+|\w+(\{le="[^"]+"\})? -?[\d.e+-]+')
    assert all(line.fullmatch(each) for each in text.splitlines())
    assert text.endswith("\n")
    assert text.count("# HELP ") == text.count("# TYPE ") == len(fields(Figures))
    assert "autotune_batcher_requests_total 5\n" in text
    assert "autotune_batcher_rows_total 10\n" in text
    assert "# TYPE autotune_batcher_queue_rows gauge\nautotune_batcher_queue_rows 0\n" in text
    assert 'autotune_batcher_batch_rows_bucket{le="1"} 0\n' in text
    assert 'autotune_batcher_batch_rows_bucket{le="2"} 5\n' in text
    assert 'autotune_batcher_batch_rows_bucket{le="+Inf"} 5\n' in text
    assert "autotune_batcher_batch_rows_sum 10.0\nautotune_batcher_batch_rows_count 5\n" in text
    assert re.search(r"autotune_batcher_wait_seconds_count 5\n", text)


def test_a_value_above_all_bounds_is_counted() -> None:
    """The last bucket is open; a quantile in it is the highest bound."""
    assert Histogram((1.0, 2.0), (0, 0, 3), 30.0).quantile(0.5) == 2.0
