"""How the backend matrix reaches the tests: options of the command line, header, fixtures, Hypothesis profiles.

A test that takes `backend` runs once on every selected member of `matrix.MEMBERS` (mparray only where a test names
it), and of `matrix.FRAMEWORKS` where `--backend` names it; with `dtype` or `int_dtype` beside it, once for every dtype
of that kind the backend has. The marker `backends("torch", "jax")` restricts a test to members or libraries,
`backends("autodiff")` to those that differentiate, `dtypes("float32")` to dtypes. What does not apply is not collected,
so nothing is reported as skipped. `backends` (plural) is the list of all selected members, for tests that draw once and
loop. `--narrow` leaves out what a run with jax's 64-bit numbers has and one without them does not need again: what
takes no `backend`, what libraries that differentiate alone have, and what the marker `any_width` says.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from matrix import FRAMEWORKS, MEMBERS, Backend, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SELECTED = pytest.StashKey[list[Backend]]()
_MISSING = pytest.StashKey[list[str]]()

_COMMON: dict[str, Any] = {
    "deadline": None,  # a new shape costs jax most of a second
    "print_blob": True,
    # `backend` is function-scoped only to enter its context, which may as well stay open for all examples of a test.
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("ci", derandomize=True, max_examples=30, **_COMMON)
settings.register_profile("quick", derandomize=True, max_examples=6, **_COMMON)
settings.register_profile("thorough", max_examples=1000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("backends")
    group.addoption("--backend", action="append", metavar="NAME", help="run on this backend only (repeatable)")
    group.addoption("--require-all", action="store_true", help="a missing library is an error")
    group.addoption("--narrow", action="store_true", help="only what the width of a library's numbers may change")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "backends(*names): members or libraries of the backend matrix to run on")
    config.addinivalue_line("markers", "dtypes(*names): dtypes to run with")
    config.addinivalue_line("markers", "means(name): where the library has such means, as `Backend.means` says")
    config.addinivalue_line("markers", "any_width: float32 throughout, left out by --narrow")
    names: list[str] = config.getoption("--backend") or list(MEMBERS)
    known = MEMBERS | FRAMEWORKS
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise pytest.UsageError(f"--backend: no {', '.join(unknown)}; there are {', '.join(known)}")
    selected, missing = [], []
    for name in known:
        if name not in names:
            continue
        try:
            selected.append(load(name))
        except ImportError as error:
            missing.append(f"{name} ({error})")
    asked = bool(config.getoption("--backend"))
    if missing and (config.getoption("--require-all") or asked):
        raise pytest.UsageError(f"missing backends: {', '.join(missing)}")
    config.stash[_SELECTED] = selected
    config.stash[_MISSING] = missing


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = []
    for backend in config.stash[_SELECTED]:
        x64 = f", x64 {'on' if 'float64' in backend.floats else 'off'}" if backend.library == "jax" else ""
        lines.append(f"{backend.name} {backend.version}{x64}")
    header = [f"backends: {'; '.join(lines)}"]
    missing = config.stash[_MISSING]
    if missing:
        header.append(f"backends left out: {'; '.join(missing)}")
    return header


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is about one library may import it."""
    selected = {backend.library for backend in config.stash[_SELECTED]}
    others = (library for library in ("torch", "jax", "dask") if library not in selected)
    return True if any(collection_path.name.startswith(f"test_{library}") for library in others) else None


def _wanted(backend: Backend, definition: pytest.Function) -> bool:
    means = definition.get_closest_marker("means")
    if means is not None and means.args[0] not in backend.means:
        return False
    marker = definition.get_closest_marker("backends")
    if marker is None:
        return not backend.exact
    differentiates = "autodiff" in marker.args and backend.autodiff is not None
    return differentiates or backend.name in marker.args or backend.library in marker.args


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    kind = next((name for name in ("dtype", "int_dtype") if name in metafunc.fixturenames), None)
    names = ["backend"] if kind is None else ["backend", kind]
    marker = metafunc.definition.get_closest_marker("dtypes")
    cases: list[Any] = []
    for backend in metafunc.config.stash[_SELECTED]:
        if not _wanted(backend, metafunc.definition):
            continue
        if kind is None:
            cases.append(pytest.param(backend, id=backend.name))
            continue
        cases.extend(
            pytest.param(backend, dtype, id=f"{backend.name}-{dtype}")
            for dtype in (backend.floats if kind == "dtype" else backend.ints)
            if marker is None or dtype in marker.args
        )
    if not cases:  # taken out again below: pytest would report an empty set as a skip
        cases.append(pytest.param(*[None] * len(names), id="none"))
    metafunc.parametrize(names, cases, indirect=["backend"])


def _any_width(item: pytest.Item) -> bool:
    """Laws, automatic differentiation, long tables of values in float32: the width of numbers leaves them alone."""
    marker = item.get_closest_marker("backends")
    spec = getattr(item, "callspec", None)
    if spec is None or "backend" not in spec.params or item.get_closest_marker("any_width") is not None:
        return True
    return marker is not None and {*marker.args} in ({"torch", "jax"}, {"autodiff"})


def _without_backend(item: pytest.Item) -> bool:
    """What is tested without frameworks."""
    return isinstance(item, pytest.Function) and not {"backend", "backends"} & set(item.fixturenames)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only_frameworks = all(backend.name in FRAMEWORKS for backend in config.stash[_SELECTED])

    def left_out(item: pytest.Item) -> bool:
        spec = getattr(item, "callspec", None)
        empty = spec is not None and "backend" in spec.params and spec.params["backend"] is None
        known = (config.getoption("--narrow") and _any_width(item)) or (only_frameworks and _without_backend(item))
        return empty or known

    gone = [item for item in items if left_out(item)]
    if gone:
        kept = {*items} - {*gone}
        items[:] = [item for item in items if item in kept]
        config.hook.pytest_deselected(items=gone)


def pytest_sessionfinish() -> None:
    """Have each worker save its coverage: a slow one may be killed before it does so by itself."""
    coverage = sys.modules.get("coverage")
    current = coverage.Coverage.current() if coverage is not None else None
    if current is not None:
        current.save()


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """One member of the matrix, in its context."""
    member: Backend = request.param
    with member.context():
        yield member


@pytest.fixture(scope="session")
def backends(request: pytest.FixtureRequest) -> list[Backend]:
    """Every selected member, mparray included; `member.call(...)` runs a call in the member's context."""
    selected: list[Backend] = request.config.stash[_SELECTED]
    return list(selected)
