"""Children that die, hang or answer rubbish: each is an outcome, and the next probe is good."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from autotune.errors import ProbeFailed
from autotune.outcomes import Failure, Measurement, OutOfMemory
from autotune.probe import IsolatedProbe
from tests.trouble import BAD, GOOD, trouble

SECONDS = 0.02
HOLD_THE_LOCK = "ctypes.PyDLL(None).sleep(60)"  # called this way, the interpreter's lock is kept


def good_again(probe: IsolatedProbe, before: int | None) -> bool:
    """Tell whether the next probe is a measurement, by a new child."""
    return isinstance(probe(GOOD, SECONDS), Measurement) and probe.pid not in (None, before)


def failed(outcome: object) -> Failure:
    """See that an outcome is a failure, and return it as one."""
    assert isinstance(outcome, Failure), outcome
    return outcome


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "died of SIGKILL"),
        ("ctypes.string_at(0)", "died of SIGSEGV"),
        ("os.abort()", "died of SIGABRT"),
        ("os.kill(os.getpid(), 40)", "died of signal 40"),  # a real-time signal has no name
        ("sys.exit(0)", "ended with status 0"),
    ],
)
@pytest.mark.parametrize("fork", [True, False], ids=["forked", "started afresh"])
def test_a_child_that_dies_is_a_crash(
    tmp_path: Path, action: str, reason: str, *, fork: bool
) -> None:
    """A child that ends during a probe is a crash told by its signal or status; the next is new."""
    with trouble(tmp_path, action, fork=fork) as probe:
        probe.load()
        before = probe.pid
        outcome = failed(probe(BAD, SECONDS))
        assert outcome.kind == "crash"
        assert outcome.candidate == BAD
        assert outcome.message.startswith(f"The child process {reason}.")
        assert outcome.elapsed_s > 0
        assert good_again(probe, before)


def test_a_child_killed_between_probes_is_a_crash(tmp_path: Path) -> None:
    """A child that somebody kills while it is idle is noticed with the next probe."""
    with trouble(tmp_path) as probe:
        probe.load()
        before = probe.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        outcome = failed(probe(GOOD, SECONDS))
        assert (outcome.kind, outcome.message) == ("crash", "The child process died of SIGKILL.")
        assert good_again(probe, before)


@pytest.mark.parametrize(
    "action",
    ["time.sleep(60)", "os.kill(os.getpid(), signal.SIGSTOP)", HOLD_THE_LOCK],
    ids=["sleeps", "is stopped", "holds the interpreter's lock"],
)
def test_a_child_that_hangs_is_a_timeout(tmp_path: Path, action: str) -> None:
    """A child that gives no answer in time is ended, however it hangs; the next is new."""
    with trouble(tmp_path, action, probe_timeout_s=1.0) as probe:
        probe.load()
        before = probe.pid
        outcome = failed(probe(BAD, SECONDS))
        assert outcome.kind == "timeout"
        assert outcome.message.startswith("The child process gave no answer within 1 s.")
        assert outcome.elapsed_s >= 1
        assert good_again(probe, before)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("b'Segmentation fault' + os.linesep.encode()", "answered rubbish"),
        ("json.dumps(dict(id=99)).encode() + os.linesep.encode()", "answered another question"),
        ("b'x' * 9 * 2**20", "answered rubbish"),
    ],
    ids=["no JSON", "another id", "9 MiB and no end of the line"],
)
def test_a_child_that_answers_rubbish_is_a_crash(tmp_path: Path, answer: str, reason: str) -> None:
    """An answer that is no reply to the question is a crash, and the child is ended."""
    with trouble(tmp_path, f"os.write(channel(), {answer})") as probe:
        outcome = failed(probe(BAD, SECONDS))
        assert (outcome.kind, outcome.message) == ("crash", f"The child process {reason}.")
        assert probe.pid is None


def test_the_last_words_of_a_child_are_told(tmp_path: Path) -> None:
    """What a child printed before it died is in the message, on one printable line."""
    action = "os.write(2, b'cuBLAS\\x1b[31m: not\\nsupported'); os.abort()"
    with trouble(tmp_path, action) as probe:
        message = failed(probe(BAD, SECONDS)).message
        assert "It last said: " in message
        assert "cuBLAS[31m: not supported" in message
        assert message.isprintable()


def test_a_child_that_dies_while_loading_is_told(tmp_path: Path) -> None:
    """A child that ends before it is ready is ProbeFailed for `load`, and a crash for a probe."""
    with trouble(tmp_path, when_made="os._exit(7)") as probe:
        with pytest.raises(ProbeFailed, match="ended with status 7 while loading the model"):
            probe.load()
        outcome = failed(probe(GOOD, SECONDS))
        assert outcome.kind == "crash"
        assert "ended with status 7 while loading the model" in outcome.message


def test_a_model_that_cannot_be_loaded_again_is_no_candidates_fault(tmp_path: Path) -> None:
    """A child died of one candidate; the next one had no part in it, and may be tried again."""
    again = f"os.path.exists({str(tmp_path / 'made')!r})"
    made = f"os._exit(7) if {again} else open({str(tmp_path / 'made')!r}, 'w').close()"
    with trouble(tmp_path, "os.abort()", when_made=made) as probe:
        assert failed(probe(BAD, SECONDS)).kind == "crash"
        outcome = failed(probe(GOOD, SECONDS))
        assert outcome.kind == "stopped"
        assert "ended with status 7 while loading the model" in outcome.message
        (tmp_path / "made").unlink()
        assert isinstance(probe(GOOD, SECONDS), Measurement)


def test_a_model_that_never_loads_is_given_up(tmp_path: Path) -> None:
    """A child that is not ready in time is ended."""
    with trouble(tmp_path, when_made="time.sleep(60)", load_timeout_s=1.0) as probe:
        with pytest.raises(ProbeFailed, match="gave no answer within 1 s while loading"):
            probe.load()
        assert probe.pid is None


def test_an_interrupted_probe_leaves_no_child(tmp_path: Path) -> None:
    """Ctrl-C during a probe goes on to the caller, and the child is ended first."""
    with trouble(tmp_path, "time.sleep(60)") as probe:
        probe.load()
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            probe(BAD, SECONDS)
        timer.join()
        assert probe.pid is None


def test_tensorflow_out_of_memory_is_an_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow's own allocator with no more to give is out of memory on the device."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setenv("TF_MKL_ALLOC_MAX_BYTES", str(32 * 2**20))
    with trouble(tmp_path, "__import__('tensorflow').zeros((2**24,)) + 1.0") as probe:
        if not probe.load().counts_device_peaks:
            pytest.skip("TensorFlow's allocator keeps no count on this CPU: needs oneDNN")
        outcome = probe(BAD, SECONDS)
        assert isinstance(outcome, OutOfMemory), outcome
        assert outcome.where == "device"
        assert "mklcpu" in outcome.message
