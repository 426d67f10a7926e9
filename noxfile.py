"""The project's tasks: `nox` checks style, types and tests, `nox -l` lists the sessions, `nox -s NAME` runs one."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
TYPED = ("src", "tests", "noxfile.py")

# One release of torch, always resolved together with everything else that an environment needs: left open, or installed
# in a second step, pip may fetch gigabytes of another build in its place.
TORCH = "torch==2.13.0"
LIBRARIES = "numpy,torch,jax,dask"

# Two workers of one thread each: tests are many small calls, where a thread pool costs more than it gives.
# Work stealing starts each worker on its own contiguous half, so that a file's compiled shapes meet one jit cache.
PARALLEL = ("-n", "2", "--dist", "worksteal")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
# Without x64 it is dtypes that differ, not laws: few examples of each.
X64_OFF = {**ONE_THREAD, "JAX_ENABLE_X64": "0", "HYPOTHESIS_PROFILE": "quick"}
X64_ON = {**ONE_THREAD, "JAX_ENABLE_X64": "1"}

# With XLA's older emitters of loops: compiling, which tests of jax spend most of their time on, takes a third less.
SOONER = f"{ONE_THREAD['XLA_FLAGS']} --xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"

# Libraries that are tested one at a time, each in an environment of its own since what they ask for does not go
# together, and the tests that run there: values, derivatives, errors and laws of all functions, and the library's own
# transforms.
FRAMEWORKS: dict[str, tuple[str, ...]] = {
    "tensorflow": ("tests",),
    "paddle": ("tests",),
    "mlx": ("tests",),
    "autograd": ("tests",),
    # Of its constants ndonnx makes a model for every operation: all functions are exported and run instead.
    "ndonnx": ("tests/test_onnx.py", "tests/test_imports.py", "docs/onnx.md"),
}

# Platforms that have no build of a library.
LACKING = {"mlx": ("win32",)}

# Beside this one the others are installed too, for the test that NumPy's users import none of them.
LAST = "ndonnx"

# On Linux and Windows a build of TensorFlow without what GPUs need, which is a quarter of the size.
SMALLER = {"tensorflow": (".[numpy]", "tensorflow-cpu>=2.21")} if sys.platform != "darwin" else {}

# Settings that choose kernels and blocks for a machine; where they are set for another one they slow NumPy down.
OPENBLAS_AS_IT_IS = {"OPENBLAS_CORETYPE": None, "OPENBLAS_L2_SIZE": None}

# Lines of src that coverage may leave out: what Dynamo traces, and hardware that is not there.
MOST_EXCLUDED = 20

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]


def group(name: str) -> tuple[str, ...]:
    """Requirements of a dependency group in pyproject.toml."""
    return nox.project.dependency_groups(PYPROJECT, name)


def requirements(library: str) -> tuple[str, ...]:
    """What softxent with one of the frameworks needs."""
    return SMALLER.get(library, (f".[numpy,{library}]",))


def floor(requirement: str) -> str:
    """Pin a requirement of the form "name>=version,…" to that version."""
    name, _, versions = requirement.partition(">=")
    return f"{name}=={versions.partition(',')[0]}"


def narrow() -> tuple[str, ...]:
    """Arguments of a run without jax's 64-bit numbers, which need not repeat everything.

    Laws do not depend on the width, and the other run tries them on float32 too; of jax's own transforms test_jax has
    enough, and of what checks and lays out arguments the first functions have.
    """
    rest = ("divergences", "evaluation", "linear", "logspace", "sampling", "segments", "sparse", "streaming")
    left_out = (Path("tests", f"test_{name}.py") for name in rest)
    return ("--narrow", "--backend=jax", "--ignore=tests/property", *(f"--ignore={path}" for path in left_out))


def sooner(session: nox.Session) -> dict[str, str]:
    """Have XLA compile in less time, if this release of it still can: it stops at a flag that it does not know.

    What users get is compiled by the narrow run.
    """
    code = "import jax; jax.devices(); print('understood')"
    said = session.run("python", "-c", code, env={"XLA_FLAGS": SOONER}, silent=True, success_codes=range(-64, 256))
    return {"XLA_FLAGS": SOONER} if "understood" in str(said) else {}


def runnable(source: Path, lines: list[int]) -> list[str]:
    """Name those of the lines that stand outside `if TYPE_CHECKING:`."""
    blocks = ast.parse(source.read_text(encoding="utf-8")).body
    typing_only = [b for b in blocks if isinstance(b, ast.If) and ast.unparse(b.test) == "TYPE_CHECKING"]
    unrun = {line for block in typing_only for line in range(block.lineno, (block.end_lineno or 0) + 1)}
    return [f"{source}:{line}" for line in lines if line not in unrun]


@nox.session
def demo(session: nox.Session) -> None:
    """Train a classifier of digits, and a language model, with NumPy, torch and jax; `-- --with mlx,...` adds some."""
    _, _, others = " ".join(session.posargs).replace("=", " ").partition("--with ")
    extras = [requirement for name in others.split(",") if name in FRAMEWORKS for requirement in requirements(name)]
    session.install(".[numpy,torch,jax]", TORCH, *group("demo"), *extras)
    session.run("python", "docs/examples/digits.py", *session.posargs)
    session.run("python", "docs/examples/language_model.py")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on every backend, all of which must be there; arguments go to pytest."""
    session.install(f".[{LIBRARIES}]", TORCH, *group("test"))
    pytest = ("pytest", "--require-all", *PARALLEL, *session.posargs)
    # jax fixes the width of its integers and floats at import, so its narrow mode needs a process of its own. Given
    # arguments may select nothing there (exit 5); the whole matrix comes last and has the last word.
    if "--backend" not in session.posargs:
        session.run(*pytest, *narrow(), env=X64_OFF, success_codes=[0, 5] if session.posargs else [0])
    session.run(*pytest, env=X64_ON | sooner(session))


@nox.session(name="property")
def property_(session: nox.Session) -> None:
    """Search for counterexamples to the laws at length; arguments go to pytest."""
    session.install(f".[{LIBRARIES}]", TORCH, *group("test"))
    thorough = {**X64_ON, "HYPOTHESIS_PROFILE": "thorough"}
    session.run("pytest", "--require-all", *PARALLEL, "tests/property", *session.posargs, env=thorough)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and who may import whom."""
    session.install("-e", ".", *group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check annotations, strictly. No array library but NumPy is needed: pyproject.toml says why."""
    session.install("-e", ".", *group("types"))
    session.run("mypy", *TYPED)


@nox.session
@nox.parametrize("library", list(FRAMEWORKS))
def frameworks(session: nox.Session, library: str) -> None:
    """Run the tests on one more library, if that can be installed here; arguments go to pytest."""
    there = [name for name in FRAMEWORKS if sys.platform not in LACKING.get(name, ())]
    if library not in there:
        session.skip(f"{library} cannot be installed on this platform")
    needed = there if library == LAST else [library]
    session.install(*{each: None for name in needed for each in requirements(name)}, *group("test"))
    quick = {**ONE_THREAD, "HYPOTHESIS_PROFILE": "quick"}
    tests = ("--backend", library, "--doctest-glob=*.md", *FRAMEWORKS[library])
    session.run("pytest", *PARALLEL, *tests, *session.posargs, env=quick)
    session.run("python", "docs/support_table.py", library, "--check", env=quick)


@nox.session
def doctests(session: nox.Session) -> None:
    """Run every example of the docstrings, the README and the guide."""
    session.install("-e", f".[{LIBRARIES}]", TORCH, *group("doctest"))
    elsewhere = {Path(page) for pages in FRAMEWORKS.values() for page in pages}
    pages = ("README.md", *(str(page) for page in sorted(set(Path("docs").glob("*.md")) - elsewhere)))
    absent = [f"--ignore=src/softxent/backends/{library}.py" for library in FRAMEWORKS]
    pytest = ("pytest", "--doctest-modules", "--doctest-glob=*.md", *absent)
    session.run(*pytest, "src", *pages, *session.posargs, env=ONE_THREAD)
    session.run("python", "docs/support_table.py", "--check")


@nox.session
def coverage(session: nox.Session) -> None:
    """Show that the tests reach every line and branch of src; few examples a law are enough for that."""
    session.install("-e", f".[{LIBRARIES}]", TORCH, *group("coverage"))
    session.run("coverage", "erase")
    pytest = ("coverage", "run", "-m", "pytest", *PARALLEL)
    session.run(*pytest, *narrow(), env={**X64_OFF, "HYPOTHESIS_PROFILE": "quick"})
    # Other members of the matrix have no code that these do not run.
    members = [f"--backend={name}" for name in ("numpy", "numpy-readonly", "strict", "torch", "jax", "dask")]
    session.run(*pytest, *members, env={**X64_ON, "HYPOTHESIS_PROFILE": "quick"} | sooner(session))
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")
    session.run("coverage", "json", "--quiet")
    files = json.loads(Path("coverage.json").read_text(encoding="utf-8"))["files"]
    excluded = [line for name, file in files.items() for line in runnable(Path(name), file["excluded_lines"])]
    session.log(f"{len(excluded)} lines are excluded: {', '.join(excluded) or 'none'}")
    if len(excluded) > MOST_EXCLUDED:
        session.error(f"{MOST_EXCLUDED} lines at most may be excluded")


@nox.session(reuse_venv=False)
def rundeps(session: nox.Session) -> None:
    """Import and use softxent where nothing but its runtime dependency is installed."""
    session.install(".")
    session.run("python", "tests/rundeps.py")


@nox.session(python="3.11", reuse_venv=False)
def minimum(session: nox.Session) -> None:
    """Run the tests on the oldest Python, NumPy, jax and array-api-compat that pyproject.toml admits."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    floors = [floor(requirement) for requirement in (*project["dependencies"], *extras["numpy"], *extras["jax"])]
    session.install(".", *floors, *group("test"))
    backends = ("--require-all", "--backend", "numpy", "--backend", "jax")
    # What may differ here is the libraries, not the laws: few examples of each.
    session.run("pytest", *backends, *PARALLEL, *session.posargs, env={**X64_ON, "HYPOTHESIS_PROFILE": "quick"})


@nox.session(reuse_venv=False)
def build(session: nox.Session) -> None:
    """Build source distribution and wheel, and use the wheel in a fresh environment."""
    session.install(*group("build"))
    distributions = Path(session.create_tmp())
    session.run("python", "-m", "build", "--outdir", str(distributions / "dist"))
    built = sorted(str(path) for path in (distributions / "dist").iterdir())
    session.run("twine", "check", "--strict", *built)

    fresh = distributions / "fresh"
    session.run("python", "-m", "venv", "--clear", str(fresh))
    python = str(fresh / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    (wheel,) = (path for path in built if path.endswith(".whl"))
    session.run(python, "-m", "pip", "install", "--quiet", wheel, external=True)
    session.run(python, "tests/rundeps.py", external=True)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Measure against every peer and write docs/benchmarks.md; `-- --compare REVISION` measures against a revision."""
    session.install(".[numpy,torch,jax]", TORCH, *group("bench"))
    session.run("python", "benchmarks/run.py", *session.posargs, env=OPENBLAS_AS_IT_IS)


@nox.session
def accuracy(session: nox.Session) -> None:
    """Hold every function against its definition and write docs/accuracy.md; fail where a bound is broken."""
    session.install(".[numpy,torch,jax]", TORCH, *group("bench"))
    session.run("python", "benchmarks/accuracy.py", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Break the source one line at a time and see the tests notice."""
    session.install(f".[{LIBRARIES}]", TORCH, *group("test"))
    session.run("python", "tests/mutants.py", *session.posargs, env=X64_ON)
