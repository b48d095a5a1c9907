"""How long a batch takes: the record's own call times, in the recommended way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune import Candidate, InvalidRecord, Measurement
from autotune.outcomes import Outcome
from autotune.service import LEVELS, MEASURED, Service, Times
from autotune.splitting import Splitter
from tests.batchers import record_of, timed
from tests.tunings import MODEL, replaced


def service_of(way: Candidate, outcomes: Sequence[Outcome]) -> Service:
    """How a record that recommends this way serves."""
    return Service(record_of(way, outcomes=outcomes))


curves = st.dictionaries(
    st.integers(1, 1_000),
    st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=20),
    min_size=1,
    max_size=8,
)


@given(curves, st.integers(1, 2_000))
def test_times_are_plausible_for_any_curve_and_rows(
    measured: dict[int, list[float]], rows: int
) -> None:
    """Times rise from quantile to quantile and lie within those of the nearest sizes.

    Beyond the measured sizes they lie between those of the last one and its share by rows.
    """
    known = Times(measured)
    times = [known.seconds(rows, draw) for draw in range(0, LEVELS, 64)]
    assert all(a <= b * (1 + 1e-9) for a, b in itertools.pairwise(times))
    below = max((size for size in measured if size <= rows), default=min(measured))
    above = min((size for size in measured if size >= rows), default=max(measured))
    ends = [*measured[below], *measured[above]]
    beyond = rows / below if rows > max(measured) or rows < min(measured) else 1.0
    slack = 1 + 1e-9
    assert min(ends) * min(1.0, beyond) / slack <= times[0]
    assert times[-1] <= max(ends) * max(1.0, beyond) * slack


def test_the_times_of_a_size_are_those_that_were_measured() -> None:
    """At a measured size mean and quantiles are those of its calls."""
    calls = np.random.default_rng(0).exponential(0.01, 10_000)
    times = Times({8: calls.tolist()})
    assert times.mean(8) == pytest.approx(calls.mean(), rel=0.01)
    assert times.seconds(8, LEVELS // 2) == pytest.approx(np.median(calls), rel=0.01)


def test_only_calm_calls_of_the_same_way_count() -> None:
    """Other engines and disturbed blocks say nothing, unless there is nothing else of a size."""
    way = Candidate(64)
    service = service_of(
        way,
        [
            timed(64, 0.002),
            timed(64, 9.0, engine="compiled"),
            Measurement(way, (9.0,) * 4, disturbed=4),
            Measurement(Candidate(8), (0.001,) * 4, disturbed=4),
            timed(128, 0.003),
        ],
    )
    assert service.times(1).mean(64) == pytest.approx(0.002)
    assert service.times(1).mean(8) == pytest.approx(0.001)
    assert service.limits == [8, 64]


def test_a_call_alone_takes_the_time_that_it_took_alone() -> None:
    """With fewer in flight the times measured so count; those of more, where none were."""
    way = Candidate(8, concurrency=3)
    together = [timed(8, 0.03, concurrency=3)]
    assert service_of(way, together).times(1).mean(8) == pytest.approx(0.03)
    alone = service_of(way, [*together, timed(8, 0.01)])
    assert [round(alone.times(flights).mean(8), 6) for flights in (1, 2, 3)] == [0.01, 0.03, 0.03]


@pytest.mark.parametrize(
    ("engine", "changes", "pads"),
    [
        ("xla", {}, True),
        ("compiled", {}, False),
        ("compiled", {"backend": "jax"}, True),
        ("keras", {"jit_compile": True}, True),
        ("onnxruntime", {"backend": "jax"}, False),
    ],
)
def test_an_engine_that_compiles_for_each_size_is_padded(
    engine: str, changes: dict[str, object], pads: bool
) -> None:
    """33 rows of 64 take the time of 64 where the predictor pads them, else their own."""
    outcomes = [timed(size, size / 1_000, engine=engine) for size in (1, 8, 64)]
    record = record_of(Candidate(64, engine), outcomes=outcomes)
    service = Service(replaced(record, model=replaced(MODEL, **changes)))
    assert service.times(1).mean(33) == pytest.approx(0.064 if pads else 0.033)


def test_a_batch_is_run_in_the_parts_that_the_predictor_makes() -> None:
    """With two in flight a batch is halved where the predictor's own splitter halves it."""
    way = Candidate(64, concurrency=2)
    outcomes = [timed(size, size / 1_000, concurrency=2) for size in (1, 8, 64)]
    service = service_of(way, outcomes)
    splitter = Splitter(way, outcomes)
    assert [service.parts(rows) for rows in range(1, 65)] == [
        splitter.split(rows, 64) for rows in range(1, 65)
    ]
    assert service.parts(64) == (32, 32)


def test_a_record_without_times_is_refused() -> None:
    """A record with no recommendation, or with none of its calls, cannot be planned from."""
    with pytest.raises(InvalidRecord, match="no recommendation"):
        Service(replaced(record_of(Candidate(8)), recommendation=None))
    with pytest.raises(InvalidRecord, match="no times of 8 rows, keras"):
        Service(record_of(Candidate(8)))


def test_what_python_takes_is_told_apart() -> None:
    """The default has a time for all parts, and keeps its proportion when scaled."""
    assert min(MEASURED.let_in_s, MEASURED.answer_s, MEASURED.batch_s, MEASURED.wake_s) > 0
    scaled = MEASURED.scaled_to(3 * MEASURED.request_s)
    assert scaled.let_in_s == pytest.approx(3 * MEASURED.let_in_s)
    assert scaled.batch_s == MEASURED.batch_s
    assert (MEASURED.byte_s > 0, scaled.byte_s) == (True, 0)
