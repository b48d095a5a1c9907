"""Model files: told in a second what they are, without Keras."""

from __future__ import annotations

import contextlib
import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import InvalidModel
from autotune.modelfiles import (
    MAX_BYTES,
    MAX_CONFIG_BYTES,
    MAX_MEMBERS,
    Finding,
    check_model_file,
    refuse_code,
    refuse_unknown,
)

DENSE = {"class_name": "Dense", "module": "keras.layers", "config": {"name": "dense"}}


def archive(config: Any = DENSE, **members: bytes) -> bytes:
    """A deflated `.keras` archive with a config and weights."""
    if not isinstance(config, bytes):
        config = json.dumps(config).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in {"config.json": config, "model.weights.h5": b"w", **members}.items():
            file.writestr(name, data)
    return buffer.getvalue()


def check(path: Path, data: bytes) -> list[Finding]:
    """Write a file and check it."""
    path.write_bytes(data)
    return check_model_file(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a model file of this test goes."""
    return tmp_path / "model.keras"


def test_models_of_keras_alone_pass(
    mlp: Any, two_by_two: Any, save: Callable[[Any, str], Path]
) -> None:
    """What Keras saves of its own layers has no findings, compiled or not."""
    mlp.compile("adam", "mse")
    for model in (mlp, two_by_two):
        assert check_model_file(save(model, f"{model.name}.keras")) == []


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float16"])
def test_policies_slices_and_numbers_are_part_of_keras(
    keras: Any, save: Callable[[Any, str], Path], dtype: str
) -> None:
    """Whatever Keras itself brings is not taken for a custom class."""
    x = keras.Input((3,))
    dense = keras.layers.Dense(3, dtype=dtype, kernel_regularizer="l2", activation="gelu")
    model = keras.Model(x, dense(x)[:, :2] * 2.0)
    assert check_model_file(save(model, "policy.keras")) == []


def test_a_lambda_is_named_with_how_to_trust_it(
    keras: Any, save: Callable[[Any, str], Path]
) -> None:
    """A Lambda layer is Python code: the message has its name and the option that allows it."""
    layer = keras.layers.Lambda(lambda x: x * 2, name="twice")
    model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(1)])
    path = save(model, "code.keras")
    findings = check_model_file(path)
    with pytest.raises(
        InvalidModel, match=r"Python code \(layer 'twice', Lambda\).*--unsafe-load.*unsafe=True"
    ):
        refuse_code(path, findings)
    refuse_unknown(path, findings)


def test_a_custom_class_is_named_with_its_module(
    keras: Any, save: Callable[[Any, str], Path]
) -> None:
    """A class that Keras does not bring is named, and the message shows how to import it."""

    class Doubled(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x * 2

    path = save(keras.Sequential([keras.Input((3,)), Doubled(name="two")]), "custom.keras")
    findings = check_model_file(path)
    assert findings == [Finding("Doubled", "two", __name__)]
    refuse_code(path, findings)
    with pytest.raises(InvalidModel, match=rf"class 'Doubled'.*--import {__name__}, .*imports=\["):
        refuse_unknown(path, findings)


@pytest.mark.parametrize("name", ["Lambda", "TFSMLayer", "__lambda__"])
def test_code_is_found_under_another_name(path: Path, name: str) -> None:
    """Code stays code when the file registers it under a harmless name."""
    node = {"module": "keras.layers", "registered_name": "Custom>Dense", "config": {"name": "d"}}
    findings = check(path, archive({"layers": [node | {"class_name": name}]}))
    with pytest.raises(InvalidModel, match=f"Python code.*{name}"):
        refuse_code(path, findings)


def test_a_class_of_main_is_to_be_put_into_a_module(path: Path) -> None:
    """A class defined in a script cannot be imported from `__main__`: a module is proposed."""
    node = {"class_name": "Mine", "module": "__main__", "config": {}}
    with pytest.raises(InvalidModel, match="--import my_module"):
        refuse_unknown(path, check(path, archive(node)))


def test_losses_are_not_looked_at(path: Path) -> None:
    """A custom loss is not needed for prediction, so it is no finding."""
    loss = {"class_name": "MyLoss", "module": "mine", "config": {}}
    assert check(path, archive(DENSE | {"compile_config": {"loss": loss}})) == []


def test_a_missing_file_is_told(path: Path) -> None:
    """The message has the path."""
    with pytest.raises(InvalidModel, match=f"Model file not found: {path}"):
        check_model_file(path)


@pytest.mark.parametrize("name", ["n" * 300 + ".keras", "a\0b.keras"])
def test_a_name_that_no_file_can_have_is_told(tmp_path: Path, name: str) -> None:
    """A name that the system does not take is no traceback."""
    with pytest.raises(InvalidModel, match=r"model|Model|Cannot read"):
        check_model_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("model.keras", b"", r"is empty \(0 bytes\)"),
        ("model.keras", b"not a model\n", r"not a complete zip archive \(12 bytes\)"),
        ("model.h5", b"\x89HDF", r"HDF5 model\. Give a \.keras file: load it"),
        ("model.HDF5", b"\x89HDF", "HDF5 model"),
        ("model.txt", b"text", r"is not a \.keras file\. To convert a model: load it"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    """What is not a `.keras` file is told for what it is, with how to make one."""
    with pytest.raises(InvalidModel, match=words):
        check(tmp_path / name, data)


def test_folders_are_told_apart(tmp_path: Path) -> None:
    """A SavedModel is named as such; any other folder is just a folder."""
    with pytest.raises(InvalidModel, match=r"is a folder\. Give a \.keras file"):
        check_model_file(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(InvalidModel, match=r"is a SavedModel folder\. Give a \.keras file"):
        check_model_file(tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (b" " * (MAX_CONFIG_BYTES + 1), r"no readable config\.json"),
        (b"{", r"config\.json is not valid JSON"),
        (b"\xff", r"config\.json is not valid JSON"),
        (b"[" * 100_000 + b"]" * 100_000, r"config\.json is not valid JSON"),
        (b"[]", r"config\.json does not describe a model"),
    ],
)
def test_a_config_that_is_none_is_refused(path: Path, config: bytes, words: str) -> None:
    """Without a config that can be read there is no model."""
    with pytest.raises(InvalidModel, match=words):
        check(path, archive(config))


@pytest.mark.parametrize(
    ("name", "words"),
    [("config.json", "holds no weights: save the whole"), ("model.weights.h5", "no readable conf")],
)
def test_half_a_model_is_refused(path: Path, name: str, words: str) -> None:
    """Neither a config nor weights alone predict anything."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, json.dumps(DENSE))
    with pytest.raises(InvalidModel, match=words):
        check_model_file(path)


@pytest.mark.parametrize("name", ["../evil.py", "assets/../../evil.py", "/etc/evil", "..\\evil.py"])
def test_a_member_outside_is_refused(path: Path, name: str) -> None:
    """A member that would be unpacked elsewhere is refused and named."""
    with pytest.raises(InvalidModel, match=r"refused: member '.*evil.*' leaves the archive"):
        check(path, archive(**{name: b""}))


def test_a_link_is_refused(path: Path) -> None:
    """A member that is a link could point anywhere."""
    link = zipfile.ZipInfo("assets")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path.write_bytes(archive())
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc")
    with pytest.raises(InvalidModel, match="'assets' leaves the archive"):
        check_model_file(path)


def test_a_bomb_is_refused(path: Path) -> None:
    """A small file that says it unpacks to gigabytes is refused before it is unpacked."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", json.dumps(DENSE))
        file.writestr("model.weights.h5", bytes(2**20))
        file.getinfo("model.weights.h5").file_size = MAX_BYTES
    with pytest.raises(InvalidModel, match=r"refused: it unpacks to 2,147,\d{3},\d{3} bytes"):
        check_model_file(path)


def test_too_many_members_are_refused(path: Path) -> None:
    """An archive of thousands of members is no model."""
    members = {f"assets/{index}": b"" for index in range(MAX_MEMBERS)}
    with pytest.raises(InvalidModel, match=f"{MAX_MEMBERS + 2} members, at most {MAX_MEMBERS}"):
        check(path, archive(**members))


WHOLE = archive()


@given(cut=st.integers(1, len(WHOLE) - 1))
def test_a_file_cut_short_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Wherever a download ended, the file is told to be damaged."""
    path = tmp_path_factory.mktemp("cut") / "model.keras"
    with pytest.raises(InvalidModel, match=r"damaged: not a complete zip archive .*model\.save"):
        check(path, WHOLE[:cut])


@given(place=st.integers(0, len(WHOLE) - 1), change=st.integers(1, 255))
def test_a_changed_byte_is_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    """Whichever byte is wrong, the file is either refused or read as before."""
    path = tmp_path_factory.mktemp("changed") / "model.keras"
    data = WHOLE[:place] + bytes([WHOLE[place] ^ change]) + WHOLE[place + 1 :]
    with contextlib.suppress(InvalidModel):
        assert check(path, data) == []
