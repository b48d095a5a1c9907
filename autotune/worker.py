"""The child's side: load the model once, then answer one request a line until told to stop.

Forked or started by its `keeper`, in the latter case as `python -m autotune.worker FD`, where FD is
a socket. Standard output and error are not the channel, because native code prints there. Nothing
but JSON crosses.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from autotune.errors import (
    AutotuneError,
    EngineUnavailable,
    InvalidModel,
    ModelNotPortable,
    one_line,
)
from autotune.outcomes import Candidate, Outcome, Rehearsal
from autotune.records import Loaded
from autotune.schedule import Schedule

if TYPE_CHECKING:
    import keras

    from autotune.measure import InProcessProbe
    from autotune.workload import Synthetic, Workload


OOM_SCORE = 1000  # added when the kernel looks whom to end for memory: this process first
_PR_SET_PDEATHSIG = 1


class FileSource(Struct, frozen=True, tag="file"):
    """The fields of `models.ModelFile`."""

    path: str
    imports: tuple[str, ...] = ()
    unsafe: bool = False
    jit_compile: bool | None = None


class FactorySource(Struct, frozen=True, tag="factory"):
    """The fields of `models.ModelFactory`."""

    target: str


class SavedRows(Struct, frozen=True, tag="rows"):
    """A folder that `Workload.save` wrote."""

    folder: str


class DrawnRows(Struct, frozen=True, tag="synthetic"):
    """The fields of `workload.Synthetic`."""

    rows: int
    shapes: dict[str, tuple[int, ...]]


class Load(Struct, frozen=True, kw_only=True, tag="load"):
    """Load the model and make everything ready.

    Attributes:
        id: Number of the request.
        model: Where the model comes from.
        name: How the record calls the source.
        sample: Rows, or how to draw them.
        engines: Engines to make ready; None for all that can run the model.
        python_path: Folders where the tuner finds modules.
        expected: A folder with the outputs for the first rows, to see that the model
            arrived whole; "" for none.
        save_to: Where to save the model as `.keras`; "" for nowhere.
        seed: Seed for drawn rows.
        exports: Where exported models are put; "" for a folder that goes with the child.
        threads: Threads of one call, to be set before the backend runs; None for its default.
        siblings_bytes: What the tuner's other children hold.
        precision: Lower precision that engines may compute in; "" for none.
    """

    id: int
    model: FileSource | FactorySource
    name: str
    sample: SavedRows | DrawnRows
    engines: tuple[str, ...] | None
    python_path: tuple[str, ...] = ()
    expected: str = ""
    save_to: str = ""
    seed: int = 0
    exports: str = ""
    threads: int | None = None
    siblings_bytes: int = 0
    precision: str = ""


class Export(Struct, frozen=True, kw_only=True, tag="export"):
    """Export the model to where `Load` will look for it, so that this is done in a process apart.

    Converters take hundreds of MiB, which would be missing to the process that measures.
    """

    id: int
    load: Load


class Try(Struct, frozen=True, kw_only=True, tag="try"):
    """Measure one candidate.

    Attributes:
        id: Number of the request.
        candidate: What to measure.
        seconds: For timed calls.
        siblings_bytes: What the tuner's other children hold.
    """

    id: int
    candidate: Candidate
    seconds: float
    siblings_bytes: int = 0


class Rehearse(Struct, frozen=True, kw_only=True, tag="rehearse"):
    """Serve requests with a candidate, and time the calls that it takes.

    Attributes:
        id: Number of the request.
        candidate: What was recommended.
        schedule: When a batch starts.
        rows_per_s: How many requests come a second, of one row each.
        seconds: How long.
        siblings_bytes: What the tuner's other children hold.
    """

    id: int
    candidate: Candidate
    schedule: Schedule
    rows_per_s: float
    seconds: float
    siblings_bytes: int = 0


class Inspect(Struct, frozen=True, kw_only=True, tag="inspect"):
    """Start the backend, and tell of the device that it uses."""

    id: int


class Inspected(Struct, frozen=True, kw_only=True):
    """What Keras's backend runs models on.

    Attributes:
        backend: Its name.
        device: Name of the device.
        device_kind: "cpu" or "gpu".
        device_id: NVML's UUID of the GPU; "" on a CPU, or where that is not certain.
        blind: Why the GPU cannot be watched; "" where it can.
        total_bytes: Memory of the device; None where that is not told.
        preallocates: Whether the backend takes all of a GPU's memory at once, unless it is told
            not to, as autotune tells it in its child.
    """

    backend: str
    device: str
    device_kind: Literal["cpu", "gpu"]
    device_id: str
    blind: str
    total_bytes: int | None
    preallocates: bool


class Reply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to one request: at most one of these, but for `id` and `error_type`."""

    id: int
    loaded: Loaded | None = None
    outcome: Outcome | None = None
    rehearsal: Rehearsal | None = None
    inspected: Inspected | None = None
    error: str = ""
    error_type: str = ""


Request = Load | Export | Try | Rehearse | Inspect


def main() -> None:
    """Serve requests from the socket whose number is the only argument."""
    work(int(sys.argv[1]))


def work(channel: int) -> None:
    """Answer requests in this process, which is for nothing else, until the socket is closed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # should the keeper go first
    volunteer_for_the_kernel(OOM_SCORE)
    serve(socket.socket(fileno=channel))


def serve(channel: socket.socket) -> None:
    """Answer requests until the other side closes the channel."""
    probe: InProcessProbe | None = None
    decoder = msgspec.json.Decoder(Request)
    for line in channel.makefile("rb"):
        request = decoder.decode(line)
        try:
            if isinstance(request, Load):
                probe, loaded = load(request)
                gc.freeze()  # a collection before each probe need not walk all of TensorFlow
                reply = Reply(id=request.id, loaded=loaded)
            elif isinstance(request, Export):
                export(request.load)
                reply = Reply(id=request.id)
            elif isinstance(request, Inspect):
                reply = Reply(id=request.id, inspected=inspect())
            else:
                assert probe is not None  # noqa: S101  the tuner loads first
                probe.guard.siblings_bytes = request.siblings_bytes
                reply = _answer(request, probe)
        except AutotuneError as error:
            reply = Reply(id=request.id, error=str(error), error_type=type(error).__name__)
        except Exception as error:
            reply = Reply(id=request.id, error=one_line(error), error_type="ProbeFailed")
        channel.sendall(msgspec.json.encode(reply) + b"\n")


def _answer(request: Try | Rehearse, probe: InProcessProbe) -> Reply:
    if isinstance(request, Try):
        return Reply(id=request.id, outcome=probe(request.candidate, request.seconds))
    way, schedule = request.candidate, request.schedule
    rehearsal = probe.rehearse(way, schedule, request.rows_per_s, request.seconds)
    return Reply(id=request.id, rehearsal=rehearsal)


def load(request: Load) -> tuple[InProcessProbe, Loaded]:
    """Open model and rows, check that they fit each other, and make the probe."""
    from autotune import backends
    from autotune.bench import set_up

    model, sample = _open(request)
    probe, loaded = set_up(
        model,
        sample,
        request.engines,
        request.name,
        request.seed,
        exports=Path(request.exports) if request.exports else None,
        threads=request.threads,
        siblings_bytes=request.siblings_bytes,
        precision=request.precision,
    )
    if backends.can_set_threads(loaded.model.backend, loaded.machine.device_kind):
        loaded = msgspec.structs.replace(loaded, sets_threads=loaded.engines)
    if request.expected:
        _check_arrived_whole(model, sample, Path(request.expected))
    if request.save_to:
        loaded = _save(model, request.save_to, loaded)
    return probe, loaded


def export(request: Load) -> None:
    """Export the model to each format that is wanted; which it cannot be, the folder tells."""
    from autotune import engines
    from autotune.exports import Exports
    from autotune.inputs import fit_sample

    model, sample = _open(request)
    rows = fit_sample(model, sample, request.seed).take(1)
    exports = Exports(model, rows, Path(request.exports))
    for form in engines.formats_wanted(request.engines):
        with contextlib.suppress(EngineUnavailable):
            exports.folder_of(form)


def _open(request: Load) -> tuple[keras.Model, Workload | Synthetic]:
    """Open model and rows, with the backend set up."""
    from autotune import backends
    from autotune.workload import Synthetic, Workload

    sys.path.extend(path for path in request.python_path if path not in sys.path)
    backends.let_memory_grow()
    if request.threads is not None and not backends.set_threads(request.threads):
        raise EngineUnavailable("The threads of one call cannot be set on this backend.")
    sample: Workload | Synthetic
    if isinstance(request.sample, SavedRows):
        sample = Workload.open_saved(Path(request.sample.folder))
    else:
        sample = Synthetic(request.sample.rows, request.sample.shapes)
    return _open_model(request, in_memory=bool(request.expected)), sample


def inspect() -> Inspected:
    """Start the backend and look at the device that it uses."""
    from autotune import backends

    backends.let_memory_grow()
    import keras

    from autotune.device import device_of

    backend = keras.config.backend()
    device = device_of(backend)
    return Inspected(
        backend=backend,
        device=device.name,
        device_kind=device.kind,
        device_id=device.gpu.uuid if device.gpu else "",
        blind=device.blind,
        total_bytes=device.total_bytes,
        preallocates=backend in backends.PREALLOCATING,
    )


def _save(model: keras.Model, path: str, loaded: Loaded) -> Loaded:
    try:
        model.save(path)
    except Exception as error:  # such as a layer without get_config: it can still be tuned
        Path(path).unlink(missing_ok=True)
        warning = f"The model cannot be saved, so the predictor cannot be either: {one_line(error)}"
        return msgspec.structs.replace(loaded, warnings=(*loaded.warnings, warning))
    return loaded


def _open_model(request: Load, *, in_memory: bool) -> keras.Model:
    import keras

    from autotune.models import ModelFactory, ModelFile

    source = request.model
    if isinstance(source, FactorySource):
        # Each child calls it, and all must draw the same weights; Keras's seeds have 32 bits.
        keras.utils.set_random_seed(request.seed % 2**32)
        return ModelFactory(source.target).open()
    file = ModelFile(source.path, source.imports, source.unsafe, source.jit_compile)
    try:
        return file.open()
    except InvalidModel as error:
        if in_memory:
            message = str(error).replace(source.path, "The model")
            raise ModelNotPortable(message) from error
        raise


def _check_arrived_whole(model: keras.Model, sample: Any, folder: Path) -> None:
    """Compare the first rows' outputs with those of the model that was sent."""
    from autotune import engines
    from autotune.parity import compare, tolerance_of
    from autotune.workload import Workload

    expected = Workload.open_saved(folder)
    rows = sample.take(expected.rows)
    engine = engines.build(engines.REFERENCE, model, rows)
    wanted = expected.take(expected.rows)
    found = compare(engine(rows), wanted, *tolerance_of(model)).complaint
    if found:
        raise ModelNotPortable(f"The model does not survive being saved and loaded: {found}.")


def volunteer_for_the_kernel(score: int) -> None:
    """When memory runs out, have the kernel end this process rather than the tuner."""
    with contextlib.suppress(OSError):  # not Linux, or started with a higher score
        Path("/proc/self/oom_score_adj").write_text(str(score))


if __name__ == "__main__":
    main()
