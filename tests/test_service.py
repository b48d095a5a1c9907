"""How long a batch takes: the record's own call times, in the recommended way."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from autotune import Candidate, InvalidRecord, Measurement
from autotune.outcomes import Outcome, Rehearsal
from autotune.records import Input
from autotune.served import FEW
from autotune.service import MEASURED, Service
from autotune.splitting import Splitter
from tests.batchers import record_of, timed
from tests.tunings import MODEL, XEON, replaced


def standing_still(way: Candidate) -> Measurement:
    """Calls of 2 ms, three of which last 58 ms longer, as the machine stood still."""
    return Measurement(way, ((0.002,) * 20 + (0.06,)) * 3, lost_s=((0.0,) * 20 + (0.058,)) * 3)


def service_of(way: Candidate, outcomes: Sequence[Outcome]) -> Service:
    """How a record that recommends this way serves."""
    return Service(record_of(way, outcomes=outcomes))


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


def test_times_are_those_of_a_machine_that_never_stands_still() -> None:
    """How often it did, the calls of all ways tell."""
    way = Candidate(8)
    calls = standing_still(way)
    service = service_of(way, [calls, timed(8, 0.001, engine="compiled")])
    assert service.times(1).mean(8) == pytest.approx(0.002)
    others_s = timed(8, 0.001).times_s
    assert service.standstills.per_s == pytest.approx(3 / (62 * 0.002 + sum(others_s[1:])))
    assert service.standstills.mean_s == pytest.approx(0.058, rel=0.2)


def test_a_call_alone_takes_the_time_that_it_took_alone() -> None:
    """With fewer in flight the times measured so count; those of more, where none were."""
    way = Candidate(8, concurrency=3)
    together = [timed(8, 0.03, concurrency=3)]
    assert service_of(way, together).times(1).mean(8) == pytest.approx(0.03)
    alone = service_of(way, [*together, timed(8, 0.01)])
    assert [round(alone.times(flights).mean(8), 6) for flights in (1, 2, 3)] == [0.01, 0.03, 0.03]


def rehearsed(way: Candidate, call_s: float, *sizes: int) -> Rehearsal:
    """Calls that took so long, of each size."""
    return Rehearsal(
        candidate=way,
        rows_per_s=100.0,
        rows=sizes * FEW,
        flights=(1,) * FEW * len(sizes),
        times_s=(call_s,) * FEW * len(sizes),
    )


def test_served_calls_are_those_of_a_rehearsal_of_the_recommended_way() -> None:
    """Where there is one; another way's tells nothing, and the search's times stay as they are."""
    way = Candidate(8, concurrency=2)
    outcomes = [timed(1, 0.001, concurrency=2), timed(8, 0.004, concurrency=2)]
    record = record_of(way, outcomes=outcomes)
    other = rehearsed(Candidate(8, "xla"), 9.0, 1, 8)
    service = Service(replaced(record, rehearsals=(rehearsed(way, 0.006, 1, 8), other)))
    assert [times.mean(8) for times in service.served(1.0)] == pytest.approx([0.006, 0.006])
    assert service.times(2).mean(8) == pytest.approx(0.004)
    assert Service(replaced(record, rehearsals=(other,))).served(1.0) == []


def test_fewer_rows_than_were_searched_may_be_known_from_a_rehearsal() -> None:
    """A plan need not guess what they take."""
    way = Candidate(8)
    record = record_of(way, outcomes=[timed(size, size / 1_000) for size in (4, 8)])
    assert Service(record).smallest == 4
    service = Service(replaced(record, rehearsals=(rehearsed(way, 0.006, 1, 8),)))
    assert service.smallest == 1
    assert service.limits == [4, 8]  # which were searched


@pytest.mark.parametrize(
    ("engine", "changes", "pads"),
    [
        ("xla", {}, True),
        ("compiled", {}, False),
        ("compiled", {"backend": "jax"}, True),
        ("keras", {"jit_compile": True}, True),
        ("onnxruntime", {"backend": "jax"}, False),
        ("openvino", {}, True),
        ("openvino", {"parameters": 10**7}, False),
        ("openvino", {"inputs": (Input("x", (None, 10), "float32"),)}, False),
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
    assert min(msgspec.structs.astuple(MEASURED)) > 0
    scaled = MEASURED.scaled_to(3 * MEASURED.request_s)
    assert scaled.let_in_s == pytest.approx(3 * MEASURED.let_in_s)
    assert scaled.batch_s == MEASURED.batch_s
    assert (MEASURED.byte_s > 0, scaled.byte_s) == (True, 0)


def test_calls_that_leave_a_processor_free_tell_of_no_standstills() -> None:
    """Nobody felt them meanwhile."""
    calls = standing_still(Candidate(8))
    free = Measurement(Candidate(8, threads=XEON.cpu_count - 1), (0.01,) * 1_000)
    record = replaced(record_of(Candidate(8), outcomes=[calls, free]), machine=XEON)
    assert Service(record).standstills.per_s == pytest.approx(3 / (62 * 0.002))
