"""Write the README's table of supported libraries from tests that ran.

    python docs/support_table.py [LIBRARY ...]            print the rows of these libraries
    python docs/support_table.py [LIBRARY ...] --write    put them into the README
    python docs/support_table.py [LIBRARY ...] --check    fail if the README has others

The tests are those of ``tests/test_support.py``: a cell is filled where its test passed on that library. Without names
it is the libraries that ``nox -s tests`` installs; ``nox -s frameworks`` checks the others, one at a time.
The oldest supported version comes from the extras in ``pyproject.toml``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- support table: begin -->", "<!-- support table: end -->"

os.environ["JAX_ENABLE_X64"] = "1"  # the matrix asks jax which dtypes it has, and the table should show them all

TOGETHER = ("numpy", "torch", "jax", "dask", "array_api_strict")
NAMES = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "jax": "JAX",
    "dask": "Dask",
    "tensorflow": "TensorFlow",
    "paddle": "Paddle",
    "mlx": "MLX",
    "autograd": "autograd",
    "ndonnx": "ndonnx (ONNX)",
    "array_api_strict": "array-api-strict",
}
MEANS = ("gradient", "second order", "compiled", "lazy")
HEADINGS = ("library", "oldest version", "values", *MEANS, "label values checked")
DISTRIBUTIONS = {"paddle": "paddlepaddle"}


class Passed:
    """A plugin that keeps what passed: the backend, and for which dtypes, under the name of the test."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.members: dict[str, Any] = {}
        self.tests: dict[tuple[str, str], list[str]] = {}

    @pytest.hookimpl
    def pytest_runtest_makereport(self, item: pytest.Function, call: pytest.CallInfo[None]) -> None:
        """Called after set-up, call and tear-down of each test."""
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if call.when == "call" and call.excinfo is None and "backend" in params:
            backend = params["backend"]
            self.members.setdefault(backend.library, backend)
            dtypes = self.tests.setdefault((backend.library, item.originalname), [])
            if params.get("dtype") not in (None, *dtypes):
                dtypes.append(params["dtype"])


def oldest_versions() -> dict[str, str]:
    """Return the lower bound that pyproject.toml states for each library."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    matches = (re.match(r"([\w.-]+)(?:\[.*\])?\s*>=\s*([\w.]+)", requirement) for requirement in requirements)
    return {match[1]: match[2] for match in matches if match}


def checked(backend: Any) -> str:
    """Say when wrong labels are found without being asked for."""
    if backend.name == "ndonnx":
        return "constants, with check=True"
    if backend.lazy or not backend.readable:
        return "with check=True"
    return "eager, on the CPU" if backend.autodiff not in {None, "autograd"} else "always"


def rows(libraries: list[str]) -> Iterator[tuple[str, str]]:
    """Run the tests, and return the line of each library."""
    passed, oldest = Passed(), oldest_versions()
    sys.path.insert(0, str(ROOT / "tests"))
    from matrix import FRAMEWORKS, MEMBERS

    makers: dict[str, Any] = {**MEMBERS, **FRAMEWORKS}  # partials of the classes
    members = [name for name, make in makers.items() if make.func.library in libraries]
    backends = [word for name in members for word in ("--backend", name)]
    os.chdir(ROOT)
    status = pytest.main(["-q", "-p", "no:cacheprovider", "tests/test_support.py", *backends], [passed])
    if status != pytest.ExitCode.OK:
        sys.exit("the tests of the table do not pass")
    for library in sorted(libraries, key=[*NAMES].index):
        backend = passed.members[library]
        ways = [backend.means[k] if (library, f"test_{k.replace(' ', '_')}") in passed.tests else "" for k in MEANS]
        values = ", ".join(passed.tests[library, "test_values"])
        cells = (NAMES[library], oldest.get(DISTRIBUTIONS.get(library, library), ""), values, *ways, checked(backend))
        yield NAMES[library], f"| {' | '.join(cells)} |"


def main() -> int:
    """Print, write or check rows of the table."""
    parser = argparse.ArgumentParser(description="Make the README's table of supported libraries.")
    parser.add_argument("library", nargs="*", choices=[[], *NAMES], help="whose rows")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="put the rows into the README")
    action.add_argument("--check", action="store_true", help="fail if the README has other rows")
    chosen = parser.parse_args()

    readme = README.read_text(encoding="utf-8")
    before, _, rest = readme.partition(BEGIN)
    old, _, after = rest.partition(END)
    lines = {line.split("|")[1].strip(): line for line in old.strip().splitlines()[2:]}
    made = dict(rows(chosen.library or list(TOGETHER)))
    if not (chosen.write or chosen.check):
        print("\n".join(made.values()))
        return 0
    lines |= made
    lines["CuPy"] = f"| CuPy | {' | '.join(['', 'untested here', *[''] * len(MEANS), 'with check=True'])} |"
    order = [*NAMES.values(), "CuPy"]
    head = [f"| {' | '.join(cells)} |" for cells in (HEADINGS, ("---",) * len(HEADINGS))]
    table = "\n".join([*head, *(lines[name] for name in sorted(lines.keys() & set(order), key=order.index))])
    wanted = f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
    if chosen.write:
        README.write_text(wanted, encoding="utf-8")
    elif readme != wanted:
        names = " ".join(chosen.library)
        print(
            f"README.md: the support table is stale; run python docs/support_table.py {names} --write", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
