"""The footprint: a session is charged with what the process grows by while it works."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from autotune import host, mapped
from autotune.allocator import NoAllocator, TensorFlowAllocator
from autotune.footprint import Footprint, Growth

MIB = 2**20
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
NOISE = 4 * MIB  # pages that come and go by themselves


def array(mib: int) -> np.ndarray:
    """An array that takes so much, in pages that come with it and go with it.

    The C library may take a large block out of what it keeps of freed memory.
    """
    made = np.frombuffer(mmap.mmap(-1, mib * MIB, PRIVATE), np.uint8)
    made[:] = 1
    return made


def test_a_session_is_charged_with_what_it_keeps() -> None:
    """What it kept of one measurement is in the peak of the next."""
    growth = Growth()
    growth.begin()
    kept = array(64)
    assert growth.end() == pytest.approx(64 * MIB, abs=NOISE)
    growth.begin()
    more = array(32)
    assert growth.end() == pytest.approx(96 * MIB, abs=NOISE)
    assert len(kept) + len(more) == 96 * MIB


def test_what_it_lets_go_is_in_the_peak_of_that_time_alone() -> None:
    """A workspace that comes and goes is charged while it is there."""
    growth = Growth()
    growth.begin()
    workspace = array(64)
    del workspace
    assert growth.end() == pytest.approx(64 * MIB, abs=NOISE)
    growth.begin()
    assert growth.end() < NOISE


def test_what_others_take_in_between_is_not_charged() -> None:
    """Another engine's memory, taken between two measurements, is not the session's."""
    growth = Growth()
    growth.begin()
    own = array(16)
    growth.end()
    others = array(128)
    growth.begin()
    assert growth.end() == pytest.approx(16 * MIB, abs=NOISE)
    assert len(own) + len(others) == 144 * MIB


def test_freed_memory_goes_back_to_the_system() -> None:
    """What was let go in small blocks stays with the C library, until it is told."""
    blocks = [np.ones(64 * 1024, np.uint8) for _ in range(1_024)]
    last = np.ones(64 * 1024, np.uint8)  # above the others: keeps the heap from shrinking by itself
    full = host.resident_bytes()
    del blocks
    host.give_back_free_memory()
    assert full - host.resident_bytes() > 32 * MIB
    assert len(last) == 64 * 1024


def test_a_footprint_counts_both() -> None:
    """What the framework's allocator counts and what a session grew by are one peak."""
    import tensorflow as tf

    footprint = Footprint(TensorFlowAllocator("CPU:0"), Growth())
    with footprint:
        counted = tf.ones((16 * MIB // 4,))
        grown = array(32)
    if footprint.device_peak_bytes is None:
        pytest.skip("TensorFlow's allocator keeps no count on this CPU: needs oneDNN")
    # TensorFlow's tensor is counted, and may have come out of memory that the process had.
    assert footprint.device_peak_bytes >= 48 * MIB - NOISE
    assert footprint.host_peak_bytes is not None
    assert footprint.host_idle_bytes is not None
    assert footprint.host_peak_bytes - footprint.host_idle_bytes >= 32 * MIB - NOISE
    assert len(grown) == 32 * MIB
    assert counted.shape == (4 * MIB,)


def test_where_nothing_is_counted_the_process_is_all_that_is_known() -> None:
    """Without a count there is no peak of the device, with a session or without."""
    for growth in (None, Growth()):
        with Footprint(NoAllocator(), growth) as footprint:
            pass
        assert footprint.device_peak_bytes is None
        assert footprint.host_peak_bytes is not None


def test_a_footprint_tells_what_stays() -> None:
    """What a session keeps after its calls is what it holds before the next ones."""
    import tensorflow as tf

    allocator, growth = TensorFlowAllocator("CPU:0"), Growth()
    with Footprint(allocator, growth) as first:
        kept = array(32)
        workspace = array(64)
        del workspace
    if first.device_left_bytes is None:
        pytest.skip("TensorFlow's allocator keeps no count on this CPU: needs oneDNN")
    others = tf.ones((16 * MIB // 4,))
    with Footprint(allocator, growth) as second:
        pass
    assert first.device_left_bytes == pytest.approx(32 * MIB, abs=NOISE)
    assert second.device_idle_bytes == pytest.approx(48 * MIB, abs=NOISE)
    assert second.device_peak_bytes == pytest.approx(48 * MIB, abs=NOISE)
    assert len(kept) + others.shape[0] > 0


def test_rows_of_a_file_are_no_memory_of_a_session(tmp_path: Path) -> None:
    """Pages of a mapped file are not kept by who reads them; read before, they are in no peak."""
    if "RssAnon" not in Path("/proc/self/status").read_text():
        pytest.skip("needs a kernel that tells anonymous memory apart")
    np.save(tmp_path / "rows.npy", array(64))
    rows = np.asarray(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    unread, read = Growth(), Growth()
    unread.begin()
    assert rows[: 32 * MIB].sum() == 32 * MIB
    unread.end()
    assert unread.kept_bytes < NOISE
    mapped.read_in(rows)
    read.begin()
    assert rows.sum() == 64 * MIB
    assert read.end() < NOISE


def test_what_lies_between_is_charged_to_nobody() -> None:
    """A footprint that is used twice is the higher of the two."""
    import tensorflow as tf

    footprint = Footprint(TensorFlowAllocator("CPU:0"), Growth())
    with footprint:
        assert array(16).all()
    between = array(128)
    with footprint:
        assert array(32).all()
    if footprint.device_peak_bytes is None:
        pytest.skip("TensorFlow's allocator keeps no count on this CPU: needs oneDNN")
    assert footprint.device_peak_bytes == pytest.approx(32 * MIB, abs=NOISE)
    assert tf.executing_eagerly()
    assert len(between) == 128 * MIB
