"""Does the suite notice? Each mutant is the library with one line made wrong; tests have to fail on every one.

``nox -s mutants`` runs this file. The wrong line is written into a copy of ``src``, and the tests named for the mutant
run on that copy until the first failure. First the same tests run on an unchanged copy, which they have to pass.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent

VALUES = ("tests/property/test_agreement.py",)
EXAMPLES = ("tests/test_categorical.py", "tests/test_normalizers.py", "tests/test_targets.py")
LAWS = ("tests/property/test_laws.py",)
ERRORS = ("tests/test_errors.py",)
TORCH = ("tests/test_torch.py",)
RULE = ("tests/test_torch_rule.py",)
DASK = ("tests/test_dask.py",)
GRADIENTS = (
    "tests/test_gradients.py",
    "tests/test_gradients_normalizers.py",
    "tests/test_gradients_arrays.py",
)
BLOCKS = ("tests/test_blocks.py",)
THREADS = ("tests/test_threads.py",)
HANDOVER = ("tests/test_torch_handover.py",)
DIRECTIONS = ("tests/property/test_directions.py",)
CALLS = ("tests/test_calls.py",)
FEW = ("tests/test_torch_few.py",)


@dataclass(frozen=True)
class Mutant:
    """One wrong line: what is wrong with it, where it is, and which tests should see it."""

    wrong: str
    file: str
    line: str
    instead: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "labels looked at once, for all calls alike",
        "calls.py",
        "if checked is not None:",
        "if False:",
        CALLS,
    ),
    Mutant(
        "1.0 taken for the axis 1",
        "calls.py",
        "return (*traits, tuple(options), values, kinds) if _PLAIN.issuperset(kinds) else None",
        "return (*traits, tuple(options), values) if _PLAIN.issuperset(kinds) else None",
        CALLS,
    ),
    Mutant(
        "the largest logit counted with those beside it",
        "formulas/shift.py",
        "return largest, gaps, rest + (equals - 1.0)",
        "return largest, gaps, rest + equals",
        VALUES,
    ),
    Mutant(
        "more threads for torch's tensors than torch has",
        "backends/torch.py",
        "return workers.threads(min(torch.get_num_threads(), workers.allowed()))",
        "return workers.threads(workers.allowed())",
        FEW,
    ),
    Mutant(
        "a gradient handed over for another cotangent",
        "backends/torch.py",
        "if bool(torch.all(factor == 1)):",
        "if True:",
        HANDOVER,
    ),
    Mutant(
        "a gradient handed over twice",
        "backends/torch.py",
        "made, self.made = self.made, None",
        "made = self.made",
        HANDOVER,
    ),
    Mutant(
        "blocks that leave rows out",
        "backends/blocks.py",
        "yield slice(n * rows // count, (n + 1) * rows // count)",
        "yield slice(n * rows // count, max((n + 1) * rows // count - 1, n * rows // count + 1))",
        BLOCKS,
    ),
    Mutant(
        "the largest of few classes counted from the wrong end",
        "backends/numpy.py",
        "else len(x) - first, largest",
        "else first - 1, largest",
        BLOCKS,
    ),
    Mutant(
        "labels of a piece counted from its own start",
        "backends/pieces.py",
        "return self.backend.positions(like, axis, size) + self.start",
        "return self.backend.positions(like, axis, size)",
        ("tests/test_evaluation.py",),
    ),
    Mutant(
        "a result of another dtype made by way of that of the logits",
        "backends/blocks.py",
        ' if as_large and static["result"] == logits.dtype else None',
        " if as_large else None",
        BLOCKS,
    ),
    Mutant(
        "threads that warn where the call does not",
        "workers.py",
        "target=copy_context().run, args=(serve,)",
        "target=serve",
        THREADS,
    ),
    Mutant(
        "threads that outlive the call",
        "workers.py",
        "        thread.join()",
        "        pass",
        THREADS,
    ),
    Mutant(
        "the pivot removed: the derivative of a hit no longer goes through the label",
        "formulas/loss_rows.py",
        "pivot, lag = ops.where(hit, chosen, reference), ops.where(hit, 0.0, lag)",
        "pivot, lag = reference, lag",
        TORCH,
    ),
    Mutant(
        "log1p replaced by log: confident predictions lose their loss",
        "formulas/loss_rows.py",
        "log_total, lead = rest + own, ops.log1p(excess), None",
        "log_total, lead = rest + own, ops.log(1.0 + excess), None",
        VALUES,
    ),
    Mutant(
        "log1p replaced by log in all that is normalised",
        "formulas/shift.py",
        "ops.where(rest < 1, ops.log1p(beside_lead) + rise, ops.log1p(beside))",
        "ops.where(rest < 1, ops.log(1.0 + beside_lead) + rise, ops.log(1.0 + beside))",
        TORCH,
    ),
    Mutant(
        "one logarithm for both orders: second derivatives at the largest logit are lost",
        "formulas/shift.py",
        "ops.where(rest < 1, ops.log1p(beside_lead) + rise, ops.log1p(beside))",
        "ops.log1p(beside)",
        ("tests/test_logspace.py",),
    ),
    Mutant(
        "the validity factor as a where: a label out of range has derivative 0 instead of NaN",
        "formulas/loss_rows.py",
        "return times(r.validity, y)",
        "return y",
        (*TORCH, *EXAMPLES),
    ),
    Mutant(
        "masking after the arithmetic: what is masked poisons its row",
        "formulas/logits.py",
        "return ops.where(where, x, floor)",
        "return x + ops.where(where, ops.zeros_like(x), floor)",
        EXAMPLES,
    ),
    Mutant(
        "smoothing over all classes, dropped ones too",
        "formulas/targets.py",
        "    if where is None:\n        uniform",
        "    if where is not ops:\n        uniform",
        EXAMPLES,
    ),
    Mutant(
        "W dropped from the denominator",
        "formulas/loss_rows.py",
        "share = one if share is None else share",
        "share = one",
        EXAMPLES,
    ),
    Mutant(
        "halves not widened",
        "arguments.py",
        "return backend.float32 if dtype_name(dtype) in HALVES else dtype",
        "return dtype",
        VALUES,
    ),
    Mutant(
        "ignored examples counted in the mean",
        "formulas/loss_rows.py",
        "    return only(ops, present, share)",
        "    return share",
        EXAMPLES,
    ),
    Mutant(
        "the largest entry left out of the derivative of logsumexp",
        "formulas/shift.py",
        "beside, beside_lead = rest + ops.expm1(rise), ",
        "beside, beside_lead = rest, ",
        TORCH,
    ),
    Mutant(
        "the largest entry's own derivative as a difference",
        "formulas/shift.py",
        "rest + ops.expm1(rise), rest * ops.exp(-rise)",
        "rest + ops.expm1(rise), rest + ops.expm1(rise)",
        TORCH,
    ),
    Mutant(
        "0 · log 0 unguarded",
        "formulas/targets.py",
        "return a * ops.where(ops.equal(a, 0) & infinite, 0.0, y)",
        "return a * y",
        EXAMPLES,
    ),
    Mutant(
        "negative labels taken for classes",
        "formulas/targets.py",
        "inside = inside & (labels >= 0)",
        "pass",
        (*ERRORS, *EXAMPLES),
    ),
    Mutant(
        "the soft cap by tanh: its derivative has no digits left at large logits",
        "formulas/logits.py",
        "return infinite, ratio, side * rise / (1.0 + decay)",
        "return infinite, ratio, ops.tanh(ratio)",
        (*TORCH, *VALUES),
    ),
    Mutant(
        "the temperature divides directly: its derivative overflows before the loss does",
        "formulas/logits.py",
        "    if constant is positive:  # no derivatives here\n        return scaled",
        "    if ops is not None:\n        return gaps / positive",
        TORCH,
    ),
    Mutant(
        "an empty sum's derivative unguarded",
        "formulas/logsumexp.py",
        "return ops.where(s.largest == -inf, -inf, log_sum)",
        "return log_sum",
        TORCH,
    ),
    Mutant(
        "weighted sums near 1 by log",
        "formulas/logsumexp.py",
        "near_1 = (size > 0.5) & (size < 2.0)",
        "near_1 = size != size",
        EXAMPLES,
    ),
    Mutant(
        "strided sums in NumPy's own order, which is not pairwise",
        "backends/numpy.py",
        "return bool(x.strides[axis] != x.itemsize and x.shape[axis] > generic.FEW)",
        "return False",
        ("tests/test_normalizers.py",),
    ),
    Mutant(
        "rows of sample weight 0 differentiated",
        "formulas/participation.py",
        "return operand if constant is operand else ops.where(ops.equal(sample_weight, 0), constant, operand)",
        "return operand",
        (*TORCH, *EXAMPLES),
    ),
    Mutant(
        "a mean over nothing divides by 0",
        "reductions.py",
        "return backend.where(nothing, backend.ones_like(count), count), nothing",
        "return count, nothing & (count != count)",
        EXAMPLES,
    ),
    Mutant(
        "Dask blocks of labels not cut like those of the logits",
        "backends/dask.py",
        "{d: sizes for d, sizes in cuts.items() if x.shape[d] != 1}",
        "{}",
        DASK,
    ),
    Mutant(
        "libraries mixed in silence",
        "arguments.py",
        "        if other is backend:\n            continue",
        "        if other is not None:\n            continue",
        ERRORS,
    ),
    Mutant(
        "the derivative at the largest logit as 1 - p",
        "formulas/shift.py",
        "return s.beside_lead / (1.0 + s.beside_lead)",
        "return 1.0 - 1.0 / (1.0 + s.beside_lead)",
        GRADIENTS,
    ),
    Mutant(
        "the pullback of log_softmax at the largest logit as a difference",
        "formulas/log_softmax.py",
        "at_lead = own * shortfall(s) - beside / (1.0 + s.beside_lead)",
        "at_lead = own - (own + beside) / (1.0 + s.beside_lead)",
        (*VALUES, *GRADIENTS),
    ),
    Mutant(
        "the pullback of softmax not centred",
        "formulas/shift.py",
        "    t = t - ops.where(has_most, ops.take_along_axis(t, lead, axis=axis), 0.0)",
        "    t = t + 0.0",
        (*VALUES, *GRADIENTS),
    ),
    Mutant(
        "variances by 1 - p: the Hessian's diagonal of confident predictions is lost",
        "formulas/shift.py",
        "return p * ops.put_along_axis(1.0 - p, lead, lacking, axis=axis)",
        "return p * (1.0 - p)",
        GRADIENTS,
    ),
    Mutant(
        "a logit of -inf in the derivative by the temperature",
        "formulas/logits.py",
        "moment = ops.sum(dz * ops.where(gaps == -inf, 0.0, gaps), axis=axis, keepdims=True)",
        "moment = ops.sum(dz * gaps, axis=axis, keepdims=True)",
        GRADIENTS,
    ),
    Mutant(
        "what a z-loss adds to the derivative by the temperature left out",
        "formulas/logits.py",
        "return 0.0 - (moment + offset) / temperature",
        "return 0.0 - moment / temperature",
        (*GRADIENTS, *DIRECTIONS),
    ),
    Mutant(
        "an infinite loss pulled back to soft labels",
        "formulas/cross_entropy.py",
        "by_a = validated(r, factor * ops.where(ops.isinf(cost), 0.0, cost))",
        "by_a = validated(r, factor * cost)",
        GRADIENTS,
    ),
    Mutant(
        "W taken for a constant in the derivative by soft labels",
        "formulas/cross_entropy.py",
        "return by_q if weight is None else by_q + g_share * (weight - r.share) / total",
        "return by_q",
        (*GRADIENTS, *DIRECTIONS),
    ),
    Mutant(
        "rows of sample weight 0 pulled back",
        "formulas/participation.py",
        "return ops.not_equal(sample_weight, 0) & (ops.zeros_like(g) == 0), g * sample_weight",
        "return None, g * sample_weight",
        GRADIENTS,
    ),
    Mutant(
        "no derivative by a sample weight of 0",
        "formulas/loss_rows.py",
        "found = g * finite_where(ops, idle, loss)",
        "found = g * ops.where(idle, 0.0, loss)",
        GRADIENTS,
    ),
    Mutant(
        "classes and rows that take no part pulled back",
        "formulas/cross_entropy.py",
        "return only(ops, r.kept, dz)",
        "return dz",
        GRADIENTS,
    ),
    Mutant(
        "labels out of range with a finite derivative",
        "formulas/cross_entropy.py",
        "return r, validated(r, g)",
        "return r, g",
        (*TORCH, *GRADIENTS),
    ),
    Mutant(
        "the curvature of the soft cap left out of the Hessian",
        "formulas/cross_entropy.py",
        "hx = cap.pulled(hx + cap.curvature * over(dz, r.heat) * v)",
        "hx = cap.pulled(hx)",
        GRADIENTS,
    ),
    Mutant(
        "the z-loss left out of the Hessian",
        "formulas/cross_entropy.py",
        "hz = hz + of_square * p * ops.sum(p * t, axis=axis, keepdims=True)",
        "hz = hz + 0.0",
        GRADIENTS,
    ),
    Mutant(
        "the prior's rescaling left out of its derivative",
        "formulas/targets.py",
        "centred = epsilon * (g - ops.sum(g * u, axis=axis, keepdims=True)) / divisor(ops, mass)",
        "centred = epsilon * g / divisor(ops, mass)",
        (*GRADIENTS, *DIRECTIONS),
    ),
    Mutant(
        "absent weights of logsumexp with a derivative",
        "formulas/logsumexp.py",
        "only(ops, kept, w.half * (w.half / whole))",
        "w.half * (w.half / whole)",
        GRADIENTS,
    ),
    Mutant(
        "the denominator of a mean taken for a constant",
        "reductions.py",
        "return per_row, -per_row * mean",
        "return per_row, zero",
        GRADIENTS,
    ),
    Mutant(
        "the derivative of a mean over nothing by 0",
        "reductions.py",
        "return backend.where(nothing, backend.zeros_like(one), g / count)",
        "return g / count",
        GRADIENTS,
    ),
    Mutant(
        "blocks overwrite what rows share",
        "backends/blocks.py",
        "sums[k][n] = x",
        "sums[k][0] = x",
        GRADIENTS,
    ),
    Mutant(
        "what was broadcast along several class axes not added up",
        "layout.py",
        "x = self.backend.sum(x, axis=broadcast, keepdims=True) if broadcast else x",
        "x = x[..., :1] if broadcast else x",
        GRADIENTS,
    ),
    Mutant(
        "masses with a graph that they do not need",
        "backends/torch.py",
        "ctx.constant = [not names & by for by in sources]",
        "ctx.constant = [False for by in sources]",
        RULE,
    ),
    Mutant(
        "forward mode of log_softmax without the mean",
        "formulas/log_softmax.py",
        "return ops.astype(only(ops, where, t - mean), result, copy=False)",
        "return ops.astype(only(ops, where, t + 0.0 * mean), result, copy=False)",
        RULE,
    ),
    Mutant(
        "written in place under vmap",
        "backends/torch.py",
        "recorded = not self.private and (any(one.requires_grad for one in tensors) or _transformed(*tensors))",
        "recorded = not self.private and any(one.requires_grad for one in tensors)",
        TORCH,
    ),
    Mutant(
        "a logarithm of the ratio that cancels",
        "formulas/divergences.py",
        "return ops.copysign(ops.maximum(a, b) * rise(ops, -ops.abs(d)), d)",
        "return a - b + 0.0 * d",
        ("tests/test_divergences.py",),
    ),
    Mutant(
        "the last step of entmax left out",
        "formulas/entmax.py",
        "p = p - s * surplus",
        "p = p - 0.0 * s * surplus",
        ("tests/test_sparse.py",),
    ),
    Mutant(
        "entmax without the derivative by its own mean",
        "formulas/entmax.py",
        "return g - ops.sum(d.s * g, axis=axis, keepdims=True) / d.total",
        "return g - 0.0 * ops.sum(d.s * g, axis=axis, keepdims=True) / d.total",
        ("tests/test_sparse.py",),
    ),
    Mutant(
        "an id that is none goes unnoticed",
        "formulas/segments.py",
        "return y if m.valid is None else y * ops.where(ops.all(m.valid), ops.ones_like(y), nan)",
        "return y",
        ("tests/test_segments.py",),
    ),
    Mutant(
        "log(1 - exp(-x)) by one form for all x",
        "formulas/log_space.py",
        "small = x < _SMALL",
        "small = x < 0.0 * _SMALL",
        ("tests/test_logspace.py",),
    ),
    Mutant(
        "hard samples without the derivatives of soft ones",
        "formulas/gumbel.py",
        "choice + (p - ops.stop_gradient(p))",
        "choice + 0.0 * p",
        ("tests/test_sampling.py",),
    ),
    Mutant(
        "derivatives by the weights of the last rows alone",
        "backends/blocks.py",
        "self.add_to(whole[n], x)",
        "pass",
        ("tests/test_linear.py",),
    ),
    Mutant(
        "the bias has no derivative",
        "formulas/linear.py",
        "head.bias: lambda: ops.sum(flat, axis=0)",
        "head.bias: lambda: 0.0 * ops.sum(flat, axis=0)",
        ("tests/test_linear.py",),
    ),
    Mutant(
        "what was written down of rows is done to columns",
        "backends/numpy.py",
        "return type(x), x.dtype, x.shape, x.strides",
        "return type(x), x.dtype, x.shape",
        ("tests/test_recording.py",),
    ),
    Mutant(
        "arrays of one call are constants of the next",
        "backends/recording.py",
        "if isinstance(x, self.backend.kinds):  # from elsewhere: it belongs to this call alone",
        "if False:",
        ("tests/test_recording.py",),
    ),
    Mutant(
        "a moved result is made where it belongs",
        "backends/blocks.py",
        "known=known, has_room=ops.leaves(operands, axis))",
        "known=known, has_room=True)",
        BLOCKS,
    ),
    Mutant(
        "results take the place of arguments",
        "backends/recording.py",
        "kept = self.shared | set(arguments)",
        "kept = self.shared",
        ("tests/test_recording.py",),
    ),
    Mutant(
        "two derivatives share their memory",
        "calls.py",
        "x if first[id(x)] == n else",
        "x if first[id(x)] <= n else",
        ("tests/test_recording.py",),
    ),
    Mutant(
        "labels are looked at once",
        "labels.py",
        'if static["in_bounds"] and _are_classes(',
        'if static["in_bounds"] or _are_classes(',
        ("tests/test_recording.py",),
    ),
)


def failing(source: Path, tests: tuple[str, ...]) -> str:
    """The first test that fails on ``source``; empty if all pass."""
    command = [sys.executable, "-m", "pytest", *tests, "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    for backend in ("numpy", "torch", "dask", *(("mparray",) if set(DIRECTIONS) & set(tests) else ())):
        command += ["--backend", backend]
    environment = {
        **os.environ,
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_PROFILE": "quick",
        "JAX_ENABLE_X64": "1",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:  # 1: a test failed; anything else: none ran
        sys.exit(f"pytest did not run:\n{done.stdout}\n{done.stderr}")
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failures[0].split(" - ")[0] if done.returncode else ""


def main() -> None:
    """Run the tests on the unchanged library, then on each mutant."""
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copy)
        tests = tuple(dict.fromkeys(test for mutant in MUTANTS for test in mutant.tests))
        if seen := failing(copy, tests):
            sys.exit(f"the library itself fails {seen}")
        for number, mutant in enumerate(MUTANTS, 1):
            path = copy / "softxent" / mutant.file
            original = path.read_text(encoding="utf-8")
            if original.count(mutant.line) != 1:
                sys.exit(f"{mutant.file} has not just one {mutant.line!r}: bring the mutant up to date")
            path.write_text(original.replace(mutant.line, mutant.instead), encoding="utf-8")
            seen = failing(copy, mutant.tests)
            path.write_text(original, encoding="utf-8")
            print(f"{number:2} {seen or 'SURVIVES':100} {mutant.wrong}", flush=True)
            if not seen:
                survivors.append(mutant.wrong)
    if survivors:
        sys.exit(f"{len(survivors)} of {len(MUTANTS)} mutants survive")
    print(f"all {len(MUTANTS)} mutants are noticed")


if __name__ == "__main__":
    main()
