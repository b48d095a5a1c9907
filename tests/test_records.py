"""Records: values that do not change, and go to JSON and back without loss."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import EnvironmentFault, InvalidInput, InvalidRecord
from autotune.goal import Goal
from autotune.outcomes import Candidate, Failure, Measurement, OutOfMemory
from autotune.records import (
    FORMAT_VERSION,
    Baseline,
    Input,
    Machine,
    ModelInfo,
    Recommendation,
    Round,
    TuningRecord,
    json_schema,
)

COUNTS = st.integers(1, 2**40)
SECONDS = st.floats(1e-9, 1e9)
TEXTS = st.text(max_size=20)
NOTES = st.lists(TEXTS, max_size=3).map(tuple)
NAMED = st.dictionaries(TEXTS, TEXTS, max_size=3)
CANDIDATES = st.builds(
    Candidate, COUNTS, TEXTS, concurrency=COUNTS, threads=st.none() | st.integers(1, 64)
)
MEASUREMENTS = st.builds(
    Measurement,
    CANDIDATES,
    st.lists(SECONDS, min_size=1, max_size=5).map(tuple),
    span_s=st.none() | SECONDS,
    device_peak_bytes=st.none() | COUNTS,
    host_peak_bytes=st.none() | COUNTS,
    warnings=NOTES,
)
OUTCOMES = (
    MEASUREMENTS
    | st.builds(OutOfMemory, CANDIDATES, where=st.sampled_from(["device", "host"]), message=TEXTS)
    | st.builds(
        Failure,
        CANDIDATES,
        kind=st.sampled_from(["timeout", "crash", "model_error", "mismatch"]),
        elapsed_s=SECONDS,
    )
)
INPUTS = st.builds(Input, TEXTS, st.lists(st.none() | COUNTS, max_size=3).map(tuple), TEXTS)
MODELS = st.builds(ModelInfo, name=TEXTS, inputs=st.lists(INPUTS, max_size=2).map(tuple))
MACHINES = st.builds(
    Machine, device=TEXTS, memory_bytes=COUNTS, device_memory_bytes=st.none() | COUNTS
)
RECOMMENDATIONS = st.builds(
    Recommendation,
    batch_size=COUNTS,
    concurrency=COUNTS,
    threads=st.none() | COUNTS,
    rows_per_s=SECONDS,
    rows_per_s_low=st.none() | SECONDS,
    rows_per_s_high=st.none() | SECONDS,
    latency_s=SECONDS,
    latency_quantile_s=SECONDS,
    peak_bytes=st.none() | COUNTS,
    tied=st.lists(CANDIDATES, max_size=2).map(tuple),
    more_s=st.none() | SECONDS,
    reason=TEXTS,
    makespan_s=st.none() | SECONDS,
)
BASELINES = st.builds(
    Baseline,
    candidate=CANDIDATES,
    rows_per_s=SECONDS,
    rows_per_s_low=st.none() | SECONDS,
    rows_per_s_high=st.none() | SECONDS,
    latency_s=SECONDS,
)
ROUNDS = st.builds(Round, st.sampled_from(["search", "confirm"]), COUNTS, COUNTS)
RECORDS = st.builds(
    TuningRecord,
    goal=st.builds(Goal, rows=st.none() | COUNTS, latency_budget_s=st.none() | SECONDS),
    outcomes=st.lists(OUTCOMES, max_size=4).map(tuple),
    recommendation=st.none() | RECOMMENDATIONS,
    rounds=st.lists(ROUNDS, max_size=3).map(tuple),
    baselines=st.lists(BASELINES, max_size=2).map(tuple),
    memory_limit_bytes=st.none() | COUNTS,
    budget_s=SECONDS,
    model=st.none() | MODELS,
    machine=st.none() | MACHINES,
    unavailable=NAMED,
    warnings=NOTES,
    created=TEXTS,
)
EMPTY = TuningRecord(goal=Goal(), outcomes=(), recommendation=None)


@given(RECORDS)
def test_a_record_goes_to_json_and_back(record: TuningRecord) -> None:
    """No value of a record is lost or changed on the way through JSON."""
    assert TuningRecord.from_json(record.to_json()) == record


@given(RECORDS)
def test_the_schema_holds_every_field(record: TuningRecord) -> None:
    """A record's JSON has exactly the fields that the schema names."""
    schema = json_schema()["$defs"]["TuningRecord"]["properties"]
    assert json.loads(record.to_json()).keys() == schema.keys()


def test_a_record_is_saved_and_loaded(tmp_path: Path) -> None:
    """A file holds one record, as indented JSON."""
    EMPTY.save(tmp_path / "record.json")
    assert TuningRecord.load(tmp_path / "record.json") == EMPTY
    assert (tmp_path / "record.json").read_text().startswith('{\n "goal": {\n')


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Saving into a folder that does not exist is a fault of the environment."""
    with pytest.raises(EnvironmentFault, match=r"Cannot write .*record\.json"):
        EMPTY.save(tmp_path / "missing" / "record.json")


def test_a_missing_record_is_told(tmp_path: Path) -> None:
    """The message has the path and the reason."""
    with pytest.raises(InvalidRecord, match=r"Cannot read .*record\.json: No such file"):
        TuningRecord.load(tmp_path / "record.json")


def test_a_newer_format_is_refused_with_the_remedy() -> None:
    """A record of a newer autotune is not half understood; the message says to upgrade."""
    newer = msgspec.structs.replace(EMPTY, format_version=FORMAT_VERSION + 1)
    with pytest.raises(
        InvalidRecord, match=rf"version {FORMAT_VERSION + 1}.*up to {FORMAT_VERSION}.*pip install"
    ):
        TuningRecord.from_json(newer.to_json())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format_version": "1"}',
        b'{"format_version": 1}',
        EMPTY.to_json()[:-10],
        EMPTY.to_json().replace(b"throughput", b"speed"),
        EMPTY.to_json().replace(b'"min_batch_size": 1', b'"min_batch_size": 0'),
        EMPTY.to_json().replace(b'"created": ""', b'"created": "\xff"'),
        b'{"format_version": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    """Whatever is wrong with a record's bytes, the error says that it is damaged."""
    with pytest.raises(InvalidRecord, match="The file is not a tuning record, or is damaged"):
        TuningRecord.from_json(data, "The file")


@pytest.mark.parametrize("name", ["batch_size", "concurrency", "threads"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_a_candidate_counts_from_1(name: str, value: Any) -> None:
    """Counts of a candidate are whole and positive; the message names the one that is not."""
    with pytest.raises(InvalidInput, match=f"{name} must be a whole number of at least 1, but got"):
        Candidate(**{"batch_size": 1, name: value})


@pytest.mark.parametrize(
    ("candidate", "text"),
    [
        (Candidate(1), "1 row, keras"),
        (Candidate(8, "xla", concurrency=2), "8 rows, xla, 2 in flight"),
        (Candidate(8, threads=4), "8 rows, keras, 4 threads"),
        (Candidate(8, concurrency=2, threads=1), "8 rows, keras, 2 in flight, 1 thread each"),
    ],
)
def test_a_candidate_reads_as_words(candidate: Candidate, text: str) -> None:
    """Only what differs from the usual is said."""
    assert str(candidate) == text


@pytest.mark.parametrize("value", [Candidate(1), Measurement(Candidate(1), (1.0,)), EMPTY])
def test_values_do_not_change(value: msgspec.Struct) -> None:
    """What was measured cannot be edited in place."""
    with pytest.raises(AttributeError, match="immutable"):
        setattr(value, value.__struct_fields__[0], None)


@given(MEASUREMENTS)
def test_medians_and_rates_come_from_the_calls(measurement: Measurement) -> None:
    """Latency is the median call; the rate is all rows over all the time they took."""
    calls = measurement.times_s
    span_s = measurement.span_s or sum(calls)
    assert measurement.latency_s == statistics.median(calls)
    assert measurement.rows_per_s * span_s == pytest.approx(
        measurement.candidate.batch_size * len(calls)
    )


@pytest.mark.parametrize(
    "times_s", [(), (0.0,), (1.0, -1.0), (1.0, float("inf")), (float("nan"), 1.0)]
)
def test_a_measurement_holds_calls_that_took_time(times_s: tuple[float, ...]) -> None:
    """No call, and a call of no time or without end, are no measurement."""
    with pytest.raises(InvalidInput, match="times_s must hold at least one call"):
        Measurement(Candidate(1), times_s)


@pytest.mark.parametrize("span_s", [-1.0, float("inf"), float("nan")])
def test_a_span_is_a_time(span_s: float) -> None:
    """Calls cannot have taken less than no time together, nor have gone on without end."""
    with pytest.raises(InvalidInput, match="span_s must be a time in seconds"):
        Measurement(Candidate(1), (1.0,), span_s=span_s)


def test_the_allocator_counts_before_the_process() -> None:
    """The peak is the device's where it is known, be it 0, and else that of the process."""
    both = Measurement(Candidate(1), (1.0,), device_peak_bytes=0, host_peak_bytes=5)
    assert both.peak_bytes == 0
    assert Measurement(Candidate(1), (1.0,), host_peak_bytes=5).peak_bytes == 5


@given(RECOMMENDATIONS)
def test_a_recommendation_can_be_tried_again(recommendation: Recommendation) -> None:
    """The choice as a candidate has all that makes it one."""
    candidate = recommendation.candidate
    for name in candidate.__struct_fields__:
        assert getattr(candidate, name) == getattr(recommendation, name)
