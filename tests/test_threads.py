"""Threads on NumPy: whose limit holds, that none outlives its call, and that calls from many threads do not meet."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from softxent import cross_entropy, log_softmax, logsumexp, softmax, threads, value_and_grad
from softxent import workers as pool
from softxent.formulas import softmax as formula

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Backend

NumPy = np.ndarray[Any, Any]
ON_NUMPY = pytest.mark.backends("numpy-readonly")
LARGE = (600, 1000)  # more logits than two blocks of NumPy's have


# -- whose limit holds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, -1, -(2**70)])
def test_a_limit_below_1_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"limit must be at least 1, got {limit}; 1 is the calling thread alone"):
        threads(limit).__enter__()


@pytest.mark.parametrize("limit", [None, 2.0, "2", True, np.float32(1)], ids=repr)
def test_a_limit_that_is_no_int_is_refused(limit: Any) -> None:
    with pytest.raises(TypeError, match=r"limit must be an int of at least 1, got .*; 1 is the calling thread alone"):
        threads(limit).__enter__()


def test_limits_nest_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with threads(3):
        assert pool.allowed() == 3
        with threads(np.int64(7)):  # type: ignore[arg-type]
            assert pool.allowed() == 7
        assert pool.allowed() == 3
        with pytest.raises(KeyError), threads(2):
            raise KeyError
        assert pool.allowed() == 3
    assert pool.allowed() == 5


def test_a_refused_limit_changes_nothing() -> None:
    with threads(3):
        with pytest.raises(ValueError, match="limit"):
            threads(0).__enter__()
        assert pool.allowed() == 3


def test_as_a_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")

    @threads(2)
    def allowed(depth: int) -> list[int]:
        return [pool.allowed(), *(allowed(depth - 1) if depth else [])]

    assert allowed(2) == [2, 2, 2]
    assert pool.allowed() == 5
    assert allowed(0) == [2]


def test_a_limit_holds_for_its_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    found: list[int] = []
    with threads(3):
        other = threading.Thread(target=lambda: found.append(pool.allowed()))
        other.start()
        other.join()
    assert found == [5]


def test_a_limit_holds_for_its_task_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")

    async def task(limit: int, ready: asyncio.Barrier) -> int:
        with threads(limit):
            await ready.wait()
            return pool.allowed()

    async def both() -> list[int]:
        ready = asyncio.Barrier(2)
        return [*await asyncio.gather(task(2, ready), task(3, ready)), pool.allowed()]

    assert asyncio.run(both()) == [2, 3, 5]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", 1),
        ("4,2", 4),
        (" 3 ", 3),
        ("3 , 2", 3),
        ("0", 11),
        ("-2", 11),
        ("many", 11),
        ("", 11),
        (",4", 11),
        ("²", 11),
    ],
)
def test_omp_num_threads(value: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no number of threads is as if it were not there."""
    monkeypatch.setattr(pool, "_cpus", lambda: 11)
    monkeypatch.setattr(pool, "_limits_of_libraries", list)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert pool.allowed() == expected
    with threads(6):
        assert pool.allowed() == 6


def test_cpus_of_the_process_without_omp_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(pool, "_limits_of_libraries", list)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert pool.allowed() == 3
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert pool.allowed() == 4
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert pool.allowed() == 1


def test_threadpoolctl_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves to the libraries now, where somebody has imported it; it is not imported for that."""
    libraries = [SimpleNamespace(num_threads=6), SimpleNamespace(num_threads=3)]
    fake = ModuleType("threadpoolctl")
    fake.ThreadpoolController = lambda: SimpleNamespace(lib_controllers=libraries)  # type: ignore[attr-defined]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delitem(sys.modules, "threadpoolctl", raising=False)
    pool._libraries.cache_clear()
    assert pool.allowed() == 5
    assert "threadpoolctl" not in sys.modules
    monkeypatch.setitem(sys.modules, "threadpoolctl", fake)
    try:
        assert pool.allowed() == 3
        libraries[1].num_threads = 1  # inside threadpool_limits(1)
        assert pool.allowed() == 1
        libraries[1].num_threads = 8
        assert pool.allowed() == 5
        with threads(7):
            assert pool.allowed() == 7
        libraries.clear()
        pool._libraries.cache_clear()
        assert pool.allowed() == 5
    finally:
        pool._libraries.cache_clear()


# -- the pool ---------------------------------------------------------------------------------------------------------


def test_so_many_threads_work_at_once() -> None:
    together = threading.Barrier(3)

    def meet(_: int) -> None:
        together.wait(timeout=60)

    with threads(3):
        pool.in_parallel(meet, 3)
    assert not together.broken


def test_threads_have_the_settings_of_the_caller() -> None:
    """NumPy's floating-point errors stay off in all of them, and so does the limit stay what it is."""
    together = threading.Barrier(3)
    seen: list[tuple[str, int]] = []

    def meet(_: int) -> None:
        together.wait(timeout=60)
        seen.append((np.geterr()["invalid"], pool.allowed()))

    with threads(3), np.errstate(invalid="ignore"):
        pool.in_parallel(meet, 3)
    assert seen == [("ignore", 3)] * 3


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 100])
def test_every_block_is_done_once_and_nobody_stays(limit: int, count: int) -> None:
    done: list[int] = []
    workers: set[int] = set()

    def work(n: int) -> None:
        done.append(n)
        workers.add(threading.get_ident())

    before = threading.enumerate()
    with threads(limit):
        pool.in_parallel(work, count)
    assert sorted(done) == list(range(count))
    assert len(workers) <= min(limit, count)
    assert threading.enumerate() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_an_exception_is_raised_and_stops_the_rest(limit: int, error: type[BaseException]) -> None:
    done: list[int] = []

    def work(n: int) -> None:
        if n == 3:
            raise error(n)
        done.append(n)

    before = threading.enumerate()
    with threads(limit), pytest.raises(error, match="3"):
        pool.in_parallel(work, 10_000_000)
    assert len(done) < 5_000_000
    assert threading.enumerate() == before


def test_a_thread_that_cannot_be_started_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the system has no more of them: those there are do the work, and end."""
    start, count = threading.Thread.start, iter(range(100))

    def starting(self: threading.Thread) -> None:
        if next(count) == 1:
            raise RuntimeError("can't start new thread")
        start(self)

    before, done = threading.enumerate(), list[int]()
    monkeypatch.setattr(threading.Thread, "start", starting)
    with threads(4):
        pool.in_parallel(done.append, 50)
    assert sorted(done) == list(range(50))
    assert threading.enumerate() == before


@ON_NUMPY
def test_an_exception_in_one_block_reaches_the_caller(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    value = formula.value

    def failing(ops: Any, logits: Any, *args: Any, **kwargs: Any) -> Any:
        if ops.any(logits == 7.0):
            raise ArithmeticError("seven")
        return value(ops, logits, *args, **kwargs)

    monkeypatch.setattr(formula, "value", failing)
    monkeypatch.setattr("softxent.backends.numpy.Backend.entries", 100)
    x = np.zeros((100, 10))
    expected, before = softmax(x), threading.enumerate()
    x[57, 3] = 7.0
    for limit in (1, 3):
        with threads(limit), pytest.raises(ArithmeticError, match="seven"):
            softmax(backend.array(x))
        assert threading.enumerate() == before
    x[57, 3] = 0.0
    with threads(3):
        np.testing.assert_array_equal(softmax(backend.array(x)), expected)


@ON_NUMPY
def test_threads_for_large_work_alone(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    class Recorded(threading.Thread):
        def start(self) -> None:
            started.append(self.name)
            super().start()

    monkeypatch.setattr(pool, "Thread", Recorded)
    small, labels = backend.array(np.zeros((500, 500)), "float32"), np.zeros(500, dtype=np.int64)
    before = threading.enumerate()
    with threads(3):
        for function in (softmax, log_softmax, logsumexp):
            function(small)
            function(small.T, axis=0)
        value_and_grad(cross_entropy)(small, labels)
        cross_entropy(small, labels)
    assert started == []
    large = backend.array(np.zeros(LARGE), "float32")
    with threads(1):
        softmax(large)
    assert started == []
    with threads(3):
        softmax(large)
    assert started == ["softxent", "softxent"]
    assert threading.enumerate() == before


# -- many callers -----------------------------------------------------------------------------------------------------

SIZES = ((1, 1), (8, 10), (3, 1000), (300, 7), (64, 100), (1000, 3), LARGE)


def jobs(backend: Backend) -> list[Callable[[], Any]]:
    """Calls of every function, of all sizes, with and without options."""
    found: list[Callable[[], Any]] = []
    for seed, (rows, classes) in enumerate(SIZES):
        rng = np.random.default_rng(seed)
        shape = (rows, classes) if backend.library == "numpy" else (min(rows, 64), min(classes, 100))
        x = backend.array(rng.normal(size=shape) * 5, "float32")
        labels = backend.array(rng.integers(0, shape[1], size=shape[0]))
        weight = backend.array(rng.uniform(0.5, 2, size=shape[1]), "float32")
        found += [
            lambda x=x: softmax(x),  # type: ignore[misc]
            lambda x=x: log_softmax(x, axis=0),  # type: ignore[misc]
            lambda x=x: logsumexp(x),  # type: ignore[misc]
            lambda x=x, t=labels: cross_entropy(x, t, reduction="none"),  # type: ignore[misc]
            lambda x=x, t=labels, w=weight: value_and_grad(cross_entropy, ("logits", "weight"))(  # type: ignore[misc]
                x, t, weight=w, label_smoothing=0.1
            ),
            lambda x=x, t=labels: value_and_grad(cross_entropy)(x, t),  # type: ignore[misc]
        ]
        if backend.library == "torch":
            found.append(lambda x=x, t=labels: backward(x, t))  # type: ignore[misc]
    return found


def backward(x: Any, labels: Any) -> Any:
    leaf = x.clone().requires_grad_()
    loss = cross_entropy(leaf, labels)
    loss.backward()
    return loss.detach(), leaf.grad


def as_bytes(backend: Backend, result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(as_bytes(backend, one) for one in result)
    return backend.numpy(result).tobytes()


@pytest.mark.backends("numpy-readonly", "torch")
@pytest.mark.parametrize("entries", [None, 2**15], ids=["", "small blocks"])
def test_8_threads_of_200_calls_give_what_one_gives(
    backend: Backend, entries: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if entries is not None:
        monkeypatch.setattr(f"softxent.backends.{backend.library}.Backend.entries", entries)
    if backend.library == "torch":
        monkeypatch.setattr("softxent.backends.torch.Backend.small", -1)
    calls = jobs(backend)
    with threads(1):
        expected = [as_bytes(backend, call()) for call in calls]
    before = threading.enumerate()
    together = threading.Barrier(8)

    def caller(number: int) -> list[int]:
        together.wait(timeout=60)
        order = np.random.default_rng(number).permutation(np.arange(200) % len(calls))
        wrong = []
        for n, job in enumerate(order):
            with threads(1 + (n + number) % 3):
                if as_bytes(backend, calls[job]()) != expected[job]:
                    wrong.append(int(job))
        return wrong

    with ThreadPoolExecutor(8) as callers:
        assert list(callers.map(caller, range(8))) == [[]] * 8
    assert threading.enumerate() == before


# -- processes --------------------------------------------------------------------------------------------------------


def output_of(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@ON_NUMPY
def test_a_forked_child_works_as_its_parent(backend: Backend) -> None:
    """Also where the fork comes while threads are at work; where nothing can fork, a second call does."""
    program = f"""
        import os, threading, numpy as np
        from softxent import softmax, threads

        x = np.random.default_rng(0).normal(size={LARGE}).astype("float32")
        with threads(3):
            expected = softmax(x)
        stop = threading.Event()

        def busy():
            with threads(3):
                while not stop.is_set():
                    softmax(x)

        def right():
            with threads(3):
                return bool((softmax(x) == expected).all()) and threading.active_count() <= 2

        worker = threading.Thread(target=busy)
        worker.start()
        codes = []
        for _ in range(10):
            pid = os.fork() if hasattr(os, "fork") else None
            if pid == 0:
                os._exit(0 if right() else 1)
            codes.append(os.waitpid(pid, 0)[1] if pid else 0 if right() else 1)
        stop.set()
        worker.join()
        print(codes)
    """
    assert backend.owns(backend.array([1.0]))
    assert output_of(program) == f"{[0] * 10}\n"


@ON_NUMPY
def test_nothing_runs_at_exit(backend: Backend) -> None:
    """Calls at exit work, from a thread that outlives the main one and from a callback."""
    program = f"""
        import atexit, threading, time, numpy as np
        from softxent import softmax, threads

        x = np.zeros({LARGE}, dtype="float32")

        def late(name):
            with threads(3):
                print(name, softmax(x).shape, flush=True)

        atexit.register(late, "callback")
        late("main")
        print(threading.active_count(), flush=True)
        threading.Thread(target=lambda: (threading.main_thread().join(), late("thread"))).start()
    """
    assert backend.owns(backend.array([1.0]))
    assert output_of(program).splitlines() == [f"main {LARGE}", "1", f"thread {LARGE}", f"callback {LARGE}"]
