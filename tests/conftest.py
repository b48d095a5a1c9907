"""Real models for all tests, small enough to build in milliseconds."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.fake_driver import FakeDriver

# A machine may be slow, and no test is about time.
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any")

ON_A_CLUSTER = ("on_ray", "rayserve", "probe_conformance")  # parts of files' names


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the tests: keep those of a file, and all of Ray, in one."""
    from xdist.scheduler import LoadFileScheduling

    def group_of(test: str) -> str:
        path = test.split("::", 1)[0]
        return "ray" if any(part in path for part in ON_A_CLUSTER) else path

    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = group_of  # by the file
    return scheduler


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose package is not installed; where NO_SKIPS is set, fail it."""
    for marker in item.iter_markers("needs"):
        (package,) = marker.args
        if importlib.util.find_spec(package) is None:
            give_up = pytest.fail if os.environ.get("NO_SKIPS") else pytest.skip
            give_up(f"needs {package}: pip install '.[test-all]'")


@pytest.fixture(scope="session")
def tf() -> Any:
    """TensorFlow, imported when the first test asks for it."""
    import tensorflow

    return tensorflow


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras, imported when the first test asks for it."""
    import keras as module

    return module


@pytest.fixture
def mlp(keras: Any) -> Any:
    """One input of 10 numbers, one output of 1: the seed's model without its training."""
    keras.utils.set_random_seed(0)  # some weights lie on the edge of a tolerance
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((10,), name="x"), layers.Dense(16, activation="relu"), layers.Dense(1)],
        name="mlp",
    )


@pytest.fixture
def two_by_two(keras: Any) -> Any:
    """Two named inputs, and a dict of two outputs."""
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    outputs = {
        "score": keras.layers.Dense(1)(joined),
        "label": keras.layers.Dense(5, activation="softmax")(joined),
    }
    return keras.Model({"a": a, "b": b}, outputs, name="two_by_two")


@pytest.fixture
def rows() -> np.ndarray[Any, Any]:
    """50 rows for `mlp`, all different."""
    return np.random.default_rng(0).standard_normal((50, 10)).astype(np.float32)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any, str], Path]:
    """Save a model to a `.keras` file of this test and return its path."""

    def save_model(model: Any, name: str = "model.keras") -> Path:
        path = tmp_path / name
        model.save(path)
        return path

    return save_model


@pytest.fixture
def write_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], str]]:
    """Write a module where `import` finds it during this test, and return its name."""
    written: list[str] = []

    def write(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(tmp_path))
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def fake_driver(tmp_path: Path) -> Iterator[FakeDriver]:
    """Two GPUs that NVML and CUDA see in this process; the second is the faster one."""
    from tests.fake_driver import FakeDriver, need_compiler

    need_compiler()
    with FakeDriver(tmp_path).loaded() as driver:
        yield driver


@pytest.fixture(scope="session")
def tuned_folder(tmp_path_factory: pytest.TempPathFactory, keras: Any) -> Path:
    """A tuned folder of a model with 10 numbers in and 3 out; rows and outputs lie beside it."""
    from autotune.records import Input
    from tests.handed import write_tuned

    folder = tmp_path_factory.mktemp("tuned")
    dense = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((10,), name="x"), *dense], name="net")
    rows = np.random.default_rng(0).standard_normal((50, 10)).astype(np.float32)
    np.save(folder / "rows.npy", rows)
    np.save(folder / "expected.npy", model.predict(rows, verbose=0))
    return write_tuned(folder / "tuned", model, Input("x", (10,), "float32"))


@pytest.fixture(scope="session")
def exported_folder(tuned_folder: Path, keras: Any) -> Path:
    """The model of `tuned_folder` tuned to ONNX Runtime: a server that loads it needs no Keras."""
    from autotune.records import Input
    from tests.handed import write_tuned

    model = keras.saving.load_model(tuned_folder / "model.keras", compile=False)
    inputs = Input("x", (10,), "float32")
    return write_tuned(tuned_folder.parent / "exported", model, inputs, engine="onnxruntime")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A Ray cluster of this machine alone, with two processors; the tests add machines to it."""
    import ray
    from ray.cluster_utils import Cluster

    # Ray reports its use over the network otherwise, and the reporter outlives the tests' streams.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {
        "num_cpus": 2,
        "include_dashboard": False,
        "object_store_memory": 300 * 2**20,
        # Else it ends workers for the memory that all the other tests hold.
        "_system_config": {"memory_monitor_refresh_ms": 0},
    }
    found = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=found.address, log_to_driver=False, logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, keras: Any) -> tuple[Path, Any]:
    """A folder tuned to ONNX Runtime, which is opened in a fraction of a second, and its model."""
    from autotune import Goal, tune

    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((10,), name="x"), layers.Dense(16, activation="relu"), layers.Dense(3)],
        name="exported",
    )
    path = tmp_path_factory.mktemp("exported")
    model.save(path / "model.keras")
    rows = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
    goal = Goal(max_batch_size=64)
    engines, folder = ["onnxruntime"], path / "tuned"
    source = str(path / "model.keras")
    tune(source, rows, goal, engines=engines, concurrency=[1], budget_s=1).save(folder)
    return folder, model
