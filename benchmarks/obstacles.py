"""What stands in the way of targets that runs have missed, and what was tried, for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from targets import Outcome

UNKNOWN = "not understood yet."
# By library, function and quantity.
OBSTACLES = {
    ("NumPy", "softmax", "ratio"): (
        "NumPy's own operations, called on blocks with nothing beside them, take as long; SciPy's time for 8192 by "
        "1024 is 20 to 35 ms from run to run, by the pages that its arrays get, ours 11 to 12. Tried: blocks of 2¹⁶ to "
        "2²⁰ logits, an array for each thread to work in."
    ),
    ("NumPy", "log_softmax", "ratio"): (
        "with 1024 classes as with softmax. With few classes two fifths of the time go into two copies, from rows to "
        "columns and back. Tried: other pieces, column by column, an operation on three axes; and smaller blocks, "
        "between which threads wait for each other."
    ),
    ("NumPy", "logsumexp", "ratio"): (
        "on one thread the four operations on all logits take three quarters of the time with nothing beside "
        "them, a quarter is the first look, which brings the logits from memory. Tried: blocks of 2¹⁵ to 2²⁰ "
        "logits, one array to work in, the largest logit in place of its position."
    ),
    ("torch", "softmax", "ratio"): (
        "torch's kernel makes all steps in one pass over a row, ours are five operations. Tried: blocks of 2¹⁶ to "
        "2²² logits, huge pages for the result, which are as often slower as faster."
    ),
    ("torch", "logsumexp", "ratio"): (
        "both are single operations, torch's on the whole, ours on blocks. On one thread the exponential, "
        "difference and sum alone take half of torch's time. Tried: blocks of 2¹⁵ to 2²² logits on one and two "
        "threads, Python threads over blocks that torch does not split, NumPy's operations, its argmax, few "
        "classes in columns."
    ),
    ("torch", "cross_entropy", "µs"): (
        "from call to call 37 to 50 µs: to find the program that was made of a call alike, and to lend tensors to "
        "NumPy."
    ),
    ("torch", "cross_entropy with gradient", "ratio"): (
        "torch's own time is one of two, twice apart, by whether its gradient gets memory that was used before."
    ),
    ("torch", "cross_entropy with gradient, compiled", "ratio"): (
        "the label's logit is left out of the sum and added as expm1, so that no digit is lost: the fused loop "
        "compares each class with the label. Tried: a scatter, which is not fused; leaving the derivatives to "
        "autograd."
    ),
    ("torch", "cross_entropy with gradient", "memory ÷ input"): (
        "with ten classes a row's loss and its mass in the mean are a fifth of the input beside the gradient. "
        "Tried: blocks a quarter as large, which save half of the rest and take a quarter more time."
    ),
    ("torch", "cross_entropy with gradient", "slope"): (
        "the largest gradient, 320 MB, is made of new pages, which the system clears first; up to 32 MB the "
        "allocator has some. Tried: huge pages, which are as often slower as faster."
    ),
    ("jax", "logsumexp", "ratio"): (
        "XLA runs on threads from some size on, which costs 50 to 90 µs a call, ours or jax's; with 8 by 10 logits "
        "it takes a thirteenth of jax's time."
    ),
    ("jax", "cross_entropy", "ratio"): (
        "XLA's threads, as with logsumexp; jitted on both sides they take equally long."
    ),
    ("jax", "cross_entropy, jitted", "ratio"): (
        "with few classes XLA makes no vector instructions of what is done once a row, a logarithm and an "
        "exponential, as it is fused into loops over a row. Tried: barriers, which XLA leaves out on CPUs; the "
        "classes first, which is slower; rows without their axis of size 1, which is twice as fast and not how "
        "formulas are written."
    ),
    ("jax", "cross_entropy with gradient, jitted", "ratio"): (
        "the label's logit is left out of the sum, for which each class is compared with the label."
    ),
}


def explained(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each kind of target that was missed."""
    missed = [found for found in outcomes if not found.target.is_met(found.measured)]
    kinds = dict.fromkeys((found.library, found.function, found.target.quantity) for found in missed)
    return [
        f"* {function} on {library}, {quantity}: {OBSTACLES.get((library, function, quantity), UNKNOWN)}"
        for library, function, quantity in kinds
    ]
