"""The child's side: load the model once, then answer one request a line until told to stop.

Run by `probe` as `python -m autotune.worker FD`, where FD is a socket. Standard output and error
are not the channel, because native code prints there. Nothing but JSON crosses.
"""

from __future__ import annotations

import gc
import os
import select
import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from autotune.errors import AutotuneError, InvalidModel, ModelNotPortable, one_line
from autotune.outcomes import Candidate, Outcome
from autotune.records import Loaded

if TYPE_CHECKING:
    import keras

    from autotune.measure import InProcessProbe


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
        scratch: Folders that the tuner removes at its end, or the child if it has none.
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
    scratch: tuple[str, ...] = ()


class Try(Struct, frozen=True, kw_only=True, tag="try"):
    """Measure one candidate."""

    id: int
    candidate: Candidate
    seconds: float


class Reply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to one request: just one of `loaded`, `outcome` and `error`."""

    id: int
    loaded: Loaded | None = None
    outcome: Outcome | None = None
    error: str = ""
    error_type: str = ""


Request = Load | Try


def main() -> None:
    """Serve requests from the socket whose number is the only argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    scratch: list[str] = []
    _die_with_tuner(channel, scratch)
    _volunteer_for_the_kernel()
    serve(channel, scratch)


def serve(channel: socket.socket, scratch: list[str]) -> None:
    """Answer requests until the other side closes the channel; note its scratch folders."""
    probe: InProcessProbe | None = None
    decoder = msgspec.json.Decoder(Request)
    for line in channel.makefile("rb"):
        request = decoder.decode(line)
        try:
            if isinstance(request, Load):
                scratch.extend(request.scratch)
                probe, loaded = load(request)
                gc.freeze()  # a collection before each probe need not walk all of TensorFlow
                reply = Reply(id=request.id, loaded=loaded)
            else:
                assert probe is not None  # noqa: S101  the tuner loads first
                reply = Reply(id=request.id, outcome=probe(request.candidate, request.seconds))
        except AutotuneError as error:
            reply = Reply(id=request.id, error=str(error), error_type=type(error).__name__)
        except Exception as error:
            reply = Reply(id=request.id, error=one_line(error), error_type="ProbeFailed")
        channel.sendall(msgspec.json.encode(reply) + b"\n")


def load(request: Load) -> tuple[InProcessProbe, Loaded]:
    """Open model and rows, check that they fit each other, and make the probe."""
    from autotune.bench import set_up
    from autotune.workload import Synthetic, Workload

    sys.path.extend(path for path in request.python_path if path not in sys.path)
    _let_gpu_memory_grow()
    sample: Workload | Synthetic
    if isinstance(request.sample, SavedRows):
        sample = Workload.open_saved(Path(request.sample.folder))
    else:
        sample = Synthetic(request.sample.rows, request.sample.shapes)
    model = _open_model(request.model, in_memory=bool(request.expected))
    probe, loaded = set_up(model, sample, request.engines, request.name, request.seed)
    if request.expected:
        _check_arrived_whole(model, sample, Path(request.expected))
    if request.save_to:
        loaded = _save(model, request.save_to, loaded)
    return probe, loaded


def _save(model: keras.Model, path: str, loaded: Loaded) -> Loaded:
    try:
        model.save(path)
    except Exception as error:  # such as a layer without get_config: it can still be tuned
        Path(path).unlink(missing_ok=True)
        warning = f"The model cannot be saved, so the predictor cannot be either: {one_line(error)}"
        return msgspec.structs.replace(loaded, warnings=(*loaded.warnings, warning))
    return loaded


def _open_model(source: FileSource | FactorySource, *, in_memory: bool) -> keras.Model:
    from autotune.models import ModelFactory, ModelFile

    if isinstance(source, FactorySource):
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
    from autotune.workload import Workload

    expected = Workload.open_saved(folder)
    rows = sample.take(expected.rows)
    engine = engines.build(engines.REFERENCE, model, rows)
    found = engines.difference(engine(rows), expected.take(expected.rows))
    if found:
        raise ModelNotPortable(f"The model does not survive being saved and loaded: {found}.")


def _let_gpu_memory_grow() -> None:
    """Keep TensorFlow from taking all GPU memory at once, which would blind every reading."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


def _die_with_tuner(channel: socket.socket, scratch: list[str]) -> None:
    """End this process as soon as the tuner's end of the channel is gone, however it went.

    At an orderly end the tuner kills the child first: one that sees the channel go has
    outlived its tuner, and clears up after it.
    """

    def watch() -> None:
        poll = select.poll()
        poll.register(channel, select.POLLRDHUP | select.POLLHUP)
        poll.poll()
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _volunteer_for_the_kernel() -> None:
    """When memory runs out, have the kernel end this process and not the tuner."""
    path = Path("/proc/self/oom_score_adj")
    if path.exists():
        path.write_text("1000")


if __name__ == "__main__":
    main()
