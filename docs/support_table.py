"""Write the README's table of supported libraries from the matrix that the tests run on.

    python docs/support_table.py            print the table
    python docs/support_table.py --write    put it into the README
    python docs/support_table.py --check    fail if the README has another one

What a library can do comes from ``tests/matrix.py``, the oldest supported version from the extras in
``pyproject.toml``. Every library of the matrix has to be installed, but those that ``nox -s frameworks`` installs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tomllib
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- support table: begin -->", "<!-- support table: end -->"

os.environ["JAX_ENABLE_X64"] = "1"  # the matrix asks jax which dtypes it has, and the table should show them all
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.matrix import Backend

NAMES = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "jax": "JAX",
    "dask": "Dask",
    "array_api_strict": "array-api-strict",
    "mparray": "mparray",
    "tensorflow": "TensorFlow",
    "paddle": "Paddle",
    "mlx": "MLX",
    "autograd": "autograd",
    "ndonnx": "ndonnx (ONNX)",
}
DERIVATIVES = {
    None: "",
    "torch": "autograd, torch.func",
    "jax": "grad, jvp, vmap, jit",
    "tensorflow": "GradientTape, tf.function, vectorized_map",
    "paddle": "backward, paddle.grad, to_static",
    "mlx": "grad, jvp, vmap, compile",
    "autograd": "grad, elementwise_grad, nested",
}
DEVICES = {"torch", "jax", "tensorflow", "paddle", "mlx"}  # whose arrays may be where looking is not free
HEADINGS = (
    "library",
    "oldest version",
    "floating dtypes",
    "derivatives, transformations",
    "label values checked",
    "tested as",
)


def oldest_versions() -> dict[str, str]:
    """Return the lower bound that pyproject.toml states for each library."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    matches = (re.match(r"([\w.-]+)(?:\[.*\])?\s*>=\s*([\w.]+)", requirement) for requirement in requirements)
    return {match[1]: match[2] for match in matches if match}


def row(library: str, members: Sequence[Backend], oldest: str) -> tuple[str, ...]:
    """Return one line of the table: what holds for the members of the matrix that share a library."""
    widest = max(members, key=lambda member: len(member.floats))
    return (
        NAMES[library],
        oldest,
        "50 digits" if widest.exact else ", ".join(widest.floats),
        DERIVATIVES[widest.autodiff],
        "with check=True"
        if widest.lazy or not widest.readable
        else "eager, on the CPU"
        if widest.autodiff in DEVICES
        else "always",
        ", ".join(getattr(member, "name", library) for member in members),
    )


def table() -> str:
    """Return the whole table as markdown."""
    from tests.matrix import FRAMEWORKS, MEMBERS, load

    order = list(NAMES)
    backends = sorted((load(name) for name in MEMBERS), key=lambda backend: order.index(backend.library))
    oldest = oldest_versions()
    rows = [HEADINGS, ("---",) * len(HEADINGS)]
    rows += [
        row(library, list(members), oldest.get(library, ""))
        for library, members in groupby(backends, key=lambda backend: backend.library)
    ]
    # What tests of these need to know stands in their classes; the libraries are not loaded.
    rows += [row(make.func.library, [make.func], oldest.get(make.func.library, "")) for make in FRAMEWORKS.values()]
    rows.append(("CuPy", "", "float16, float32, float64", "", "with check=True", "untested here"))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def main() -> int:
    """Print, write or check the table."""
    parser = argparse.ArgumentParser(description="Make the README's table of supported libraries.")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="put the table into the README")
    action.add_argument("--check", action="store_true", help="fail if the README has another table")
    chosen = parser.parse_args()

    made = table()
    if not (chosen.write or chosen.check):
        print(made)
        return 0
    readme = README.read_text(encoding="utf-8")
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"
    if chosen.write:
        README.write_text(wanted, encoding="utf-8")
    elif readme != wanted:
        print("README.md: the support table is stale; run python docs/support_table.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
