"""How many threads work on large NumPy arrays: as many as the caller allows."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import lru_cache
from numbers import Integral
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LIMIT: ContextVar[int | None] = ContextVar("softxent.threads", default=None)


@contextmanager
def threads(limit: int) -> Iterator[None]:
    """Let softxent work on NumPy arrays with at most so many threads, in a ``with`` statement or as a decorator.

    Results do not depend on it, not in the last bit. It holds for the current thread or asyncio task.

    Without it there are as many threads as ``OMP_NUM_THREADS`` says or, where that is not set, as the process may use
    CPUs; and never more than a ``threadpoolctl.threadpool_limits`` in force leaves to NumPy's own libraries. Calls on
    fewer than about half a million logits stay on the calling thread. Threads end with the call that started them, so
    that nothing runs at exit or is missing after a fork. Torch and jax have threads of their own, with limits of their
    own.

    Parameters
    ----------
    limit : int
        1 or more; 1 is the calling thread alone.

    Raises
    ------
    TypeError, ValueError
        If ``limit`` is no int, or less than 1.

    Examples
    --------
    >>> import numpy as np
    >>> from softxent import softmax, threads
    >>> with threads(1):
    ...     p = softmax(np.zeros((4, 2)))
    >>> p[0]
    array([0.5, 0.5])
    """
    if not isinstance(limit, Integral) or isinstance(limit, bool):
        msg = f"limit must be an int of at least 1, got {limit!r}; 1 is the calling thread alone"
        raise TypeError(msg)
    if limit < 1:
        msg = f"limit must be at least 1, got {limit}; 1 is the calling thread alone"
        raise ValueError(msg)
    token = _LIMIT.set(int(limit))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def allowed() -> int:
    """How many threads a call may use."""
    limit = _LIMIT.get()
    if limit is not None:
        return limit
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list has one for each level of nesting
    wanted = int(first) if first.isdecimal() and int(first) > 0 else _cpus()
    return min([wanted, *_limits_of_libraries()])


def _cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits_of_libraries() -> list[int]:
    """What threadpoolctl, where somebody uses it, leaves to the libraries it knows."""
    return [] if "threadpoolctl" not in sys.modules else [library.num_threads for library in _libraries()]


@lru_cache(maxsize=1)
def _libraries() -> tuple[Any, ...]:
    return tuple(sys.modules["threadpoolctl"].ThreadpoolController().lib_controllers)


def in_parallel(work: Callable[[int], None], count: int) -> None:
    """Call ``work`` with 0 to ``count`` - 1, on the calling thread and others that end with this call.

    The first exception stops the rest and is raised.
    """
    workers = min(allowed(), count)
    lock, waiting, failures = Lock(), iter(range(count)), list[BaseException]()

    def serve() -> None:
        try:
            while not failures:
                with lock:
                    n = next(waiting, None)
                if n is None:
                    return
                work(n)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            failures.append(error)

    others: list[Thread] = []
    with suppress(RuntimeError):  # no more threads to be had: those there are will do
        for _ in range(workers - 1):
            thread = Thread(target=copy_context().run, args=(serve,), name="softxent")
            thread.start()
            others.append(thread)
    serve()
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]
