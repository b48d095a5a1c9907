"""A light future does what one of the standard library does, and is never slept through."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from typing import Any

import pytest

from autotune.futures import LightFuture

KINDS = pytest.mark.parametrize("kind", [Future, LightFuture])
Kind = Callable[[], "Future[int]"]
SOON_S, LONG_S = 0.05, 60.0
FOR_EVER_S = 2 * LONG_S  # a thread that sleeps so long was forgotten; at last it ends, though


def later(call: Callable[[], object]) -> None:
    """Call it from another thread, when somebody surely waits."""
    threading.Timer(SOON_S, call).start()


def test_it_has_all_that_a_future_has() -> None:
    """Should a Python give futures more to carry, this tells."""
    assert set(vars(Future())) == {
        *("_condition", "_state", "_result", "_exception", "_waiters", "_done_callbacks")
    }
    light: Future[int] = LightFuture()
    assert all(hasattr(light, name) for name in vars(Future()))
    assert set(vars(light)) - set(vars(Future())) == {"_closed", "_ways"}


def test_who_just_waits_needs_no_condition() -> None:
    """Neither does who settles it."""
    light = LightFuture[int]()
    later(lambda: light.set_result(7))
    assert light.result() == 7
    assert light.result() == 7
    assert "_condition" not in vars(light)


@KINDS
def test_a_result_reaches_all_who_wait(kind: Kind) -> None:
    """Each of several threads, with and without a timeout, and who comes late."""
    future = kind()
    with ThreadPoolExecutor(8) as pool:
        waits = [pool.submit(future.result, timeout) for timeout in (None, LONG_S) * 4]
        later(lambda: future.set_result(7))
        assert [each.result(LONG_S) for each in waits] == [7] * 8
    assert future.done()
    assert future.exception() is None


@KINDS
def test_an_error_is_raised(kind: Kind) -> None:
    """By `result`; `exception` returns it."""
    future = kind()
    later(lambda: future.set_exception(KeyError("gone")))
    with pytest.raises(KeyError, match="gone"):
        future.result(LONG_S)
    assert isinstance(future.exception(), KeyError)


@KINDS
@pytest.mark.parametrize("timeout", [0, -1, SOON_S])
def test_time_is_over(kind: Kind, timeout: float) -> None:
    """Who waited in vain may wait again."""
    future = kind()
    for ask in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            ask(timeout)
    future.set_result(7)
    assert future.result(timeout) == 7


@KINDS
def test_what_is_settled_stays_so(kind: Kind) -> None:
    """A second result is refused, and so is one for what was cancelled."""
    done, cancelled = kind(), kind()
    done.set_result(7)
    assert cancelled.cancel()
    for future in (done, cancelled):
        with pytest.raises(InvalidStateError):
            future.set_result(8)
        with pytest.raises(InvalidStateError):
            future.set_exception(KeyError())
    assert done.result() == 7
    assert not done.cancel()


@KINDS
def test_cancelling(kind: Kind) -> None:
    """Who waits is told, more than once if need be; what runs is not cancelled."""
    future, running = kind(), kind()
    seen: list[Future[int]] = []
    future.add_done_callback(seen.append)
    later(future.cancel)
    with pytest.raises(CancelledError):
        future.result(LONG_S)
    assert future.cancel()
    assert not future.set_running_or_notify_cancel()
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.exception(LONG_S)
    assert wait([future], LONG_S).done == {future}
    assert running.set_running_or_notify_cancel()
    assert not running.cancel()
    running.set_result(7)
    assert running.result() == 7
    assert seen == [future]


@KINDS
def test_callbacks_are_called_in_order(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """One that fails is logged and hinders no other; who comes late is called at once."""
    future, seen = kind(), list[str]()

    def fail(_: object) -> None:
        seen.append("failed")
        raise ValueError("oh")

    for call in (lambda _: seen.append("first"), fail, lambda _: seen.append("last")):
        future.add_done_callback(call)
    future.set_result(7)
    future.add_done_callback(lambda _: seen.append("late"))
    assert seen == ["first", "failed", "last", "late"]
    assert "oh" in caplog.text


@KINDS
def test_it_is_waited_for_with_others(kind: Kind) -> None:
    """By `wait`, by `as_completed` and by an event loop; with errors among them."""
    futures = [kind() for _ in range(4)]
    futures[0].set_result(0)
    assert wait(futures, return_when=FIRST_COMPLETED).done == {futures[0]}
    later(lambda: futures[1].set_exception(KeyError()))
    assert wait(futures[1:], LONG_S, FIRST_COMPLETED).done == {futures[1]}
    later(lambda: futures[3].set_result(3))
    later(lambda: futures[2].set_result(2))
    assert {future.result() for future in as_completed(futures[2:], LONG_S)} == {2, 3}

    async def in_loop() -> int:
        future = kind()
        later(lambda: future.set_result(9))
        return await asyncio.wrap_future(future)

    assert asyncio.run(in_loop()) == 9


@pytest.mark.parametrize(
    "watch",
    [
        lambda future: future.result(FOR_EVER_S),
        lambda future: future.exception(FOR_EVER_S),
        lambda future: wait([future], FOR_EVER_S),
        lambda future: next(as_completed([future], FOR_EVER_S)),
        lambda future: called_back(future).wait(FOR_EVER_S),
    ],
    ids=["result", "exception", "wait", "as_completed", "callback"],
)
def test_who_begins_to_wait_as_it_is_settled_is_not_forgotten(
    watch: Callable[[Future[int]], Any],
) -> None:
    """Threads that take turns at every few instructions meet at each place there is."""
    futures = [LightFuture[int]() for _ in range(2_000)]
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            waits = [pool.submit(lambda: [watch(future) for future in futures]) for _ in range(2)]
            for future in futures:
                future.set_result(7)
                time.sleep(0)
            for each in waits:
                each.result(LONG_S)
    finally:
        sys.setswitchinterval(usual_s)


def called_back(future: Future[int]) -> threading.Event:
    """Set when the future calls back."""
    event = threading.Event()
    future.add_done_callback(lambda _: event.set())
    return event


def test_an_error_holds_nothing_in_a_cycle() -> None:
    """What failed goes with its last name, without the collector."""
    gc.disable()
    try:
        future = LightFuture[int]()
        future.set_exception(KeyError("gone"))
        with pytest.raises(KeyError):
            future.result()
        left = weakref.ref(future)
        del future
        assert left() is None
    finally:
        gc.enable()
