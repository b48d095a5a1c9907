"""A future that costs little where somebody just waits for its result."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

T = TypeVar("T")

_log = logging.getLogger("autotune")

_CANCELLED = ("CANCELLED", "CANCELLED_AND_NOTIFIED")
_WATCHED, _UNWATCHED = "watched", "unwatched"
_SETTLED = (*_CANCELLED, "FINISHED")


class _Late:
    """An attribute that is made when it is first looked at, by whichever thread."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: LightFuture[Any] | None, owner: type) -> Any:
        if instance is None:  # looked at in the class
            return self
        instance._watch()
        return instance.__dict__.setdefault(self._name, self._make())


class LightFuture(Future[T]):
    """A `concurrent.futures.Future` that makes its condition only for who needs one.

    To make a condition, to wait at it and to wake who waits there is most of what a future costs,
    and among dozens of threads that hand each other the interpreter all costs several times what it
    costs alone. So who asks for the result waits at a lock, which goes from hand to hand once it
    is open. All else works as ever, `concurrent.futures.wait` and callbacks among it, by the
    condition, which is made when it is first looked at: from then on the future is watched, and
    nothing happens to it but under the condition.
    """

    _condition = _Late(threading.Condition)
    _waiters = _Late(list)
    _done_callbacks = _Late(list)

    def __init__(self) -> None:
        # All that `Future` has, but for those three.
        self._state = "PENDING"
        self._result: Any = None
        self._exception: BaseException | None = None
        self._ways: list[str] = []  # the first to be noted counts: that is one step of the list's
        self._closed = threading.Lock()
        self._closed.acquire()

    def _watch(self) -> None:
        """Have it settled under the condition; who is about to do it without is waited for."""
        self._ways.append(_WATCHED)
        if self._ways[0] != _WATCHED:
            self._wait(None)

    def result(self, timeout: float | None = None) -> T:
        """Return the result, or raise the error; as that of `Future`."""
        self._wait(timeout)
        if self._state == "FINISHED" and self._exception is None:
            result: T = self._result
            return result
        try:
            return super().result(0)  # which knows what to raise
        finally:
            del self  # else the error holds this frame, and the frame the error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, or None; as that of `Future`."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        if self._state in _SETTLED:
            return
        seconds = -1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
        if self._closed.acquire(timeout=seconds):
            self._closed.release()

    def cancel(self) -> bool:
        """Cancel it unless it is running or done; as that of `Future`."""
        with self._condition:
            if self._state != "PENDING":
                return self._state in _CANCELLED
            self._state = "CANCELLED"
            self._closed.release()
            self._condition.notify_all()
        self._call_back()
        return True

    def set_result(self, result: T) -> None:
        """Settle it with a result; as that of `Future`."""
        self._settle(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """Settle it with an error; as that of `Future`."""
        self._settle(None, exception)

    def _settle(self, result: T | None, exception: BaseException | None) -> None:
        self._ways.append(_UNWATCHED)
        if self._ways[0] == _UNWATCHED:
            self._conclude(result, exception)
            return
        with self._condition:
            self._conclude(result, exception)
            for waiter in self._waiters:
                (waiter.add_result if exception is None else waiter.add_exception)(self)
            self._condition.notify_all()
        self._call_back()

    def _conclude(self, result: T | None, exception: BaseException | None) -> None:
        if self._state in _SETTLED:
            raise InvalidStateError(f"{self._state}: {self!r}")
        self._result, self._exception = result, exception
        self._state = "FINISHED"
        self._closed.release()

    def _call_back(self) -> None:
        for call in self._done_callbacks:
            try:
                call(self)
            except Exception:
                _log.exception("A callback of a future failed.")
