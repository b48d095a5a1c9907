"""What a tuning run knows, as values: the recommendation, model and machine, the record.

Everything here is frozen and goes to JSON and back without loss. History of the format:

1   first version
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from autotune.errors import InvalidRecord
from autotune.files import write_bytes
from autotune.goal import Goal
from autotune.outcomes import Block, Candidate, Measurement, Outcome, Positive, Purpose, Rehearsal

FORMAT_VERSION = 1


LimitedBy = Literal["plateau", "memory", "latency", "max_batch_size", "rows", "failure", "budget"]


class Recommendation(Struct, frozen=True, kw_only=True):
    """The chosen candidate, what it is worth, and why it was chosen.

    Attributes:
        batch_size: Rows in a batch.
        engine: What runs one batch.
        concurrency: Batches in flight.
        threads: Threads of the engine for one call; None leaves it to the engine.
        rows_per_s: Rows per second, measured afresh after the choice.
        rows_per_s_low: Lower end of the 95 % interval of `rows_per_s`; None where it was not
            timed often enough.
        rows_per_s_high: Upper end.
        latency_s: Median seconds of a batch, measured afresh.
        latency_quantile_s: Seconds of a batch at the goal's quantile, over all its calls that
            nothing disturbed.
        peak_bytes: Highest memory seen; None where it could not be read.
        limited_by: What kept the batch size from being larger.
        tied: Candidates that it is not told apart from, by more than the goal's tolerance.
        confidence: "high" where the choice was settled at 95 % confidence, and measured afresh;
            "low" where the budget ended first.
        more_s: About how many more seconds would settle it; None where it is settled.
        reason: The choice in words.
        makespan_s: Seconds for all of the goal's rows, the first call and a short last batch
            included, by what the search saw; None for other objectives.
    """

    batch_size: Positive
    engine: str
    concurrency: Positive
    threads: Positive | None
    rows_per_s: float
    rows_per_s_low: float | None
    rows_per_s_high: float | None
    latency_s: float
    latency_quantile_s: float
    peak_bytes: int | None
    limited_by: LimitedBy
    tied: tuple[Candidate, ...]
    confidence: Literal["high", "low"]
    more_s: float | None
    reason: str
    makespan_s: float | None = None

    @property
    def candidate(self) -> Candidate:
        """The choice as a candidate, which a probe can try again."""
        return Candidate(
            self.batch_size, self.engine, concurrency=self.concurrency, threads=self.threads
        )


class Baseline(Struct, frozen=True, kw_only=True):
    """What the recommendation is compared with, measured beside it, afresh.

    Attributes:
        candidate: What was timed: `keras` is `model.predict_on_batch`; `predict` is
            `model.predict` on so many rows, in its default batches of 32.
        rows_per_s: Rows per second.
        rows_per_s_low: Lower end of its 95 % interval.
        rows_per_s_high: Upper end.
        latency_s: Median seconds of a call.
    """

    candidate: Candidate
    rows_per_s: float
    rows_per_s_low: float | None
    rows_per_s_high: float | None
    latency_s: float


class Round(Struct, frozen=True):
    """Outcomes that were timed side by side.

    Attributes:
        purpose: "search" to find the answer; "wait" to see a disturbance end; "confirm" to
            measure the answer afresh.
        outcomes: How many of them, in the order of the record's outcomes.
        disturbed: How many of those something else on the machine disturbed.
    """

    purpose: Purpose
    outcomes: int
    disturbed: int


class Forecast(Struct, frozen=True, kw_only=True):
    """The memory that a candidate was expected to take, and what came of it.

    Attributes:
        candidate: What was to be tried.
        upper_bound_bytes: Its peak was not expected to be higher.
        peak_bytes: Its peak when it was first tried; None where it was not.
        limit_bytes: What the bound was held against: with a higher one it was refused.
    """

    candidate: Candidate
    upper_bound_bytes: int
    peak_bytes: int | None
    limit_bytes: int | None


class Input(Struct, frozen=True):
    """One input of the model as it was tuned.

    Attributes:
        name: The model's name for it.
        shape: Shape of one row; None for an axis of free length.
        dtype: NumPy's name of its dtype.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class ModelInfo(Struct, frozen=True, kw_only=True):
    """The model that was tuned.

    Attributes:
        name: The model's own name.
        source: Where it came from: a path, "package.module:function" or "object".
        sha256: Hash over configuration and weights.
        inputs: Its inputs, without the rows.
        parameters: Number of weights, trainable or not.
        dtype_policy: The model's dtype policy, such as "float32".
        jit_compile: Whether Keras compiles the model with XLA; changes speed and last digits.
        backend: Keras's backend.
    """

    name: str
    source: str
    sha256: str
    inputs: tuple[Input, ...]
    parameters: int
    dtype_policy: str
    jit_compile: bool
    backend: str


class Machine(Struct, frozen=True, kw_only=True):
    """The machine that the figures hold for.

    Attributes:
        device: Name of the device that ran the model.
        device_kind: "cpu" or "gpu".
        device_id: NVML's UUID of the GPU; "" on a CPU, or where that is not known.
        cpu: Name of the processor.
        cpu_count: Processors that this process may use.
        cpu_quota: Processors' worth of time that its cgroups allow; None for no quota.
        memory_bytes: Memory that this process may use: physical, or the container's limit.
        device_memory_bytes: Memory of the GPU; None on a CPU.
        system: Operating system.
        versions: Versions of Python and the packages that matter.
    """

    device: str
    device_kind: Literal["cpu", "gpu"]
    device_id: str = ""
    cpu: str
    cpu_count: int
    cpu_quota: float | None = None
    memory_bytes: int
    device_memory_bytes: int | None
    system: str
    versions: dict[str, str]

    @property
    def whole_cpus(self) -> int:
        """Processors that can be reserved: within the quota, of which a part is none."""
        quota = self.cpu_count if self.cpu_quota is None else int(self.cpu_quota)
        return max(1, min(self.cpu_count, quota))

    def cpus_for(self, way: Candidate) -> int:
        """Processors that a candidate's batches in flight use."""
        wanted = way.concurrency * way.threads if way.threads else self.cpu_count
        return min(wanted, self.whole_cpus)


class Loaded(Struct, frozen=True, kw_only=True):
    """What is known once model and rows are ready to be measured.

    Attributes:
        model: The model.
        machine: The machine.
        engines: Engines that are ready.
        unavailable: Engines that are not, with the reason.
        sets_threads: Engines that can be tried with a number of threads for one call; of the
            others such a candidate is a mismatch.
        sample_rows: How many rows stand for production input.
        counts_device_peaks: Whether the framework's allocator tells its peaks here.
        resident_bytes: Resident memory of the process with the model loaded.
        memory_limit_bytes: The highest peak that a candidate may have, by what is free now; None
            where that is not known.
        warnings: What a reader should know before trusting the figures.
    """

    model: ModelInfo
    machine: Machine
    engines: tuple[str, ...]
    unavailable: dict[str, str]
    sample_rows: int
    counts_device_peaks: bool
    resident_bytes: int
    memory_limit_bytes: int | None
    warnings: tuple[str, ...]
    sets_threads: tuple[str, ...] = ()


class TuningRecord(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One tuning run: what was asked, what was tried, what came of it.

    Attributes:
        goal: What was asked.
        outcomes: Every probe, in the order they were made.
        rounds: Which of the outcomes were timed side by side, and what for.
        forecasts: Peaks expected and peaks met, and the candidates refused for theirs.
        baselines: What the recommendation is compared with.
        rehearsals: Calls that served requests the recommended way, at a few rates in turn; () where
            there was no time for them.
        recommendation: The answer; None only in the record that `NoFeasibleBatchSize` carries.
        memory_limit_bytes: What peaks were held against at the end; None for no limit.
        budget_s: Seconds that were allowed.
        spent_s: Seconds that the probes took.
        seed: Seed of the search.
        sample_rows: How many rows stood for production input.
        model: The model; None where the search was given a bare probe.
        machine: The machine; None where the search was given a bare probe.
        unavailable: Engines that were not tried, with the reason.
        precision: Lower precision that engines were allowed to compute in; "" for none.
        warnings: What a reader should know before trusting the figures.
        created: Date and time, ISO 8601; "" where the search was given a bare probe.
        format_version: Version of this document's format.
    """

    goal: Goal
    outcomes: tuple[Outcome, ...]
    recommendation: Recommendation | None
    rounds: tuple[Round, ...] = ()
    forecasts: tuple[Forecast, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    rehearsals: tuple[Rehearsal, ...] = ()
    memory_limit_bytes: int | None = None
    budget_s: float = 0.0
    spent_s: float = 0.0
    seed: int = 0
    sample_rows: int = 0
    model: ModelInfo | None = None
    machine: Machine | None = None
    unavailable: dict[str, str] = {}
    precision: str = ""
    warnings: tuple[str, ...] = ()
    created: str = ""
    format_version: int = FORMAT_VERSION

    def blocks(self) -> Iterator[Block]:
        """Give every probe in its place; none where the record does not tell its rounds."""
        outcomes = iter(self.outcomes)
        for number, a_round in enumerate(self.rounds, 1):
            for outcome in itertools.islice(outcomes, a_round.outcomes):
                yield Block(outcome, number, a_round.purpose)

    def to_json(self) -> bytes:
        """Return the record as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def save(self, path: str | Path) -> None:
        """Write the record to a JSON file, atomically.

        Raises:
            EnvironmentFault: The file cannot be written.
        """
        write_bytes(Path(path), self.to_json())

    @classmethod
    def from_json(cls, data: bytes, where: str = "The record") -> TuningRecord:
        """Read a record from JSON; `where` names it in errors.

        Raises:
            InvalidRecord: It is not a record, it is damaged, or its format is newer than this
                version of autotune reads.
        """
        try:
            version = msgspec.json.decode(data, type=_Version).format_version
            if version < 1:
                raise InvalidRecord(f"{where} has format version {version}, which never was.")
            if version > FORMAT_VERSION:
                raise InvalidRecord(
                    f"{where} has format version {version}; this autotune reads up to "
                    f"{FORMAT_VERSION}. Upgrade it: pip install --upgrade keras-autotune."
                )
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRecord(
                f"{where} is not a tuning record, or is damaged: {error}."
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> TuningRecord:
        """Read a record that `save` wrote.

        Raises:
            InvalidRecord: No such file, not a record, damaged, or of a newer format.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise InvalidRecord(f"Cannot read {path}: {error.strerror or error}.") from error
        return cls.from_json(data, str(path))


class _Version(Struct):
    format_version: int


class Progress(Struct, frozen=True, kw_only=True):
    """What `on_event` is told: before each probe (`outcome` None), and after it.

    Attributes:
        candidate: What is tried.
        outcome: What came of it; None before the probe.
        best: Most rows per second so far; None before the first measurement.
        spent_s: Seconds that the probes took so far.
        budget_s: Seconds that are allowed.
        purpose: What the probe is for; see `Block`.
        memory_limit_bytes: The highest peak that is allowed now; None for no limit.
        leading: What would be the answer after the last round; None before the first one.
        side: "A" or "B" where two are compared, which may be the same candidate; else "".
    """

    candidate: Candidate
    outcome: Outcome | None
    best: Measurement | None
    spent_s: float
    budget_s: float
    purpose: Purpose = "search"
    memory_limit_bytes: int | None = None
    leading: Candidate | None = None
    side: str = ""


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of `TuningRecord`, which docs/record.schema.json holds."""
    schema: dict[str, Any] = msgspec.json.schema(TuningRecord)
    for definition in schema["$defs"].values():
        if "description" in definition:  # a docstring: Python 3.13 strips its indentation itself
            definition["description"] = inspect.cleandoc(definition["description"])
    return schema
