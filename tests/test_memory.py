"""Extra memory: that of a few blocks, however many rows there are, in memory or in a file."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from softxent import cross_entropy, log_softmax, logsumexp, softmax, threads, value_and_grad

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matrix import Backend

pytestmark = pytest.mark.backends("numpy-readonly")

MIB = 2**20
ROWS, CLASSES = 2**20, 1024  # 4 GiB of float32

# Anonymous memory alone, where the system tells it (Linux): pages of the file are the page cache's, which takes them
# back when it needs them.
WALK = """
    import threading, time
    from pathlib import Path
    import numpy as np
    from softxent import cross_entropy, threads

    STATUS = Path("/proc/self/status")

    def anonymous():
        lines = STATUS.read_text().splitlines() if STATUS.exists() else []
        return max((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), default=0)

    logits = np.memmap({path!r}, dtype="float32", mode="r", shape=({rows}, {classes}))
    labels = np.arange({rows}) % {classes}
    cross_entropy(logits[:4], labels[:4])
    before, seen, stop = anonymous(), [], threading.Event()

    def watch():
        while not stop.wait(0.005):
            seen.append(anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with threads(2):
        loss = cross_entropy(logits, labels, reduction="mean")
    stop.set()
    watcher.join()
    print(float(loss), max(seen) - before, len(seen))
"""


def test_a_file_of_4_gib_takes_less_than_300_mib(backend: Backend, tmp_path: Path) -> None:
    """A sparse file of zeros: every row's loss is log 1024. The arithmetic is the same for all logits."""
    path = tmp_path / "logits"
    with path.open("wb") as file:
        file.truncate(4 * ROWS * CLASSES)
    program = dedent(WALK).format(path=str(path), rows=ROWS, classes=CLASSES)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    path.unlink()
    assert done.returncode == 0, done.stderr
    loss, grown, samples = done.stdout.split()
    assert float(loss) == pytest.approx(math.log(CLASSES), rel=1e-6)
    assert int(samples) > 0
    assert int(grown) < 300 * MIB
    assert backend.owns(backend.array([1.0]))


def extra(call: Callable[[], Any]) -> int:
    """Bytes at the peak of a call beyond those of its results, as NumPy tells tracemalloc."""
    call()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    arrays = [part for one in (result if isinstance(result, tuple) else (result,)) for part in (one,)]
    return int(peak - before - sum(array.nbytes for array in arrays))


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "softmax": lambda x, _: softmax(x),
    "log_softmax": lambda x, _: log_softmax(x, temperature=2.0),
    "logsumexp": lambda x, _: logsumexp(x),
    "cross_entropy": cross_entropy,
    "value_and_grad": value_and_grad(cross_entropy),
    "smoothed": lambda x, t: value_and_grad(cross_entropy)(x, t, label_smoothing=0.1, z_loss=1e-3),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("classes", "axis"), [(512, -1), (512, 0), (4, -1), (4, 0)])
def test_extra_memory_does_not_grow_with_rows(
    backend: Backend, call: Callable[[Any, Any], Any], classes: int, axis: int
) -> None:
    """Twice the rows take what one time takes, and 32 bytes a row for labels, losses and masses."""
    many = 2**23 // classes  # logits of which blocks are as large as they get
    found = []
    for rows in (many, 2 * many):
        shape = (rows, classes) if axis else (classes, rows)
        x = backend.array(np.zeros(shape), "float32")
        labels = np.zeros(rows, dtype=np.int64)
        turned = x if axis else x.T
        del shape
        with threads(1):
            found.append(extra(lambda x=turned, t=labels: call(x, t)) - 32 * rows)  # type: ignore[misc]
    assert found[1] <= max(found[0], 0) + MIB
    assert found[0] < 32 * MIB
