"""Functions of linear logits z = x Wᵀ + b, so many rows at a time: never are all logits there.

With dz the derivatives by the logits, those by the features x, the weights W and the bias b are dz W, dzᵀ x and Σ dz.
A Hessian H of the logits makes (H (t Wᵀ)) W of a tangent t of the features.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

from softxent.formulas import cross_entropy as cross_entropy_formula
from softxent.formulas import divergences as divergences_formula
from softxent.formulas import log_probability as log_probability_formula
from softxent.formulas.marks import in_parts

Array = Any


class Head(NamedTuple):
    """What the operands of one classifier are called."""

    features: str
    weight: str
    bias: str

    @property
    def tangents(self) -> "Head":
        """What theirs are."""
        return Head(*(f"t_{name}" for name in self))


class Linear:
    """A formula of one value a row, of logits, as one of features.

    ``heads`` has the operands that make each of its logits, and ``renamed`` what further operands are called here.
    """

    def __init__(self, name: str, of: Any, heads: Mapping[str, Head], renamed: Mapping[str, str] | None = None) -> None:
        self.address = __name__, name  # where it is found again
        self.of, self.heads = of, heads
        ours = {logits: tuple(head) for logits, head in heads.items()}
        ours |= {name: (here,) for name, here in (renamed or {}).items()}
        self.theirs = {here: name for name, here in (renamed or {}).items()}
        self.COTANGENTS = {
            seed: {here for name in sources for here in ours.get(name, (name,))}
            for seed, sources in of.COTANGENTS.items()
        }
        if hasattr(of, "masses"):
            self.masses = self._masses

    @in_parts
    def value(self, ops: Any, **given: Any) -> tuple[Array, ...]:
        """Results of each row."""

        def of_part(rows: Rows) -> tuple[Array, ...]:
            return ops.run(self.of, rows.operands, by_products=bool(given.get("aux")), **rows.keywords)

        return self.rows(ops, **given).walk(of_part)

    @in_parts
    def _masses(self, ops: Any, *, chunk_bytes: int, **given: Any) -> Array:  # noqa: ARG002 - there are no logits
        """What each row counts for in a mean."""
        return self.of.masses(ops, **self.others(given))

    @in_parts
    def pullback(self, ops: Any, *, by: tuple[str, ...], **given: Any) -> tuple[Array, ...]:
        """Derivatives by the operands in ``by``."""
        return self.value_and_pullback(ops, by=by, **given)[-len(by) :]

    @in_parts
    def value_and_pullback(self, ops: Any, *, by: tuple[str, ...], **given: Any) -> tuple[Array, ...]:
        """The one and the other."""
        heads = {logits: head for logits, head in self.heads.items() if {*head} & {*by}}
        made = {name for head in heads.values() for name in head}
        names = (*heads, *(self.theirs.get(name, name) for name in by if name not in made))

        def of_part(rows: Rows) -> tuple[Array, ...]:
            operands = {**rows.operands}
            seeds = {seed: operands.pop(seed) for seed in self.COTANGENTS}
            results, found = ops.visit(self.of, seeds, operands, by=names, **rows.keywords)
            derivatives = {self.here(name): x for name, x in zip(names, found, strict=True)}
            for logits, head in heads.items():
                derivatives |= rows.pulled(head, derivatives[logits], by)
            return *results, *(derivatives[name] for name in by)

        return self.rows(ops, **given).walk(of_part, by)

    @in_parts
    def pushforward(self, ops: Any, **given: Any) -> tuple[Array, ...]:
        """Tangents of the results, from those of operands, which are named with a ``t_`` before."""

        def of_part(rows: Rows) -> tuple[Array, ...]:
            operands = {name: x for name, x in rows.operands.items() if not name.startswith("t_")}
            moving = {name.removeprefix("t_"): t for name, t in rows.others.items() if name not in operands}
            tangents = {self.theirs.get(name, name): t for name, t in moving.items()}
            tangents |= {
                logits: rows.pushed(head) for logits, head in self.heads.items() if {*head.tangents} & {*given}
            }
            one = ops.ones_like(ops.sum(next(iter(operands.values())), axis=rows.keywords["axis"], keepdims=True))

            def along(seed: str, sources: set[str]) -> Array:
                """The gradient of one result times the tangents, added up along the row."""
                by = tuple(name for name in tangents if name in sources)
                seeds = {name: one if name == seed else ops.zeros_like(one) for name in self.COTANGENTS}
                slopes = ops.evaluate(self.of.pullback, {**operands, **seeds}, by=by, **rows.keywords)
                products = (
                    ops.sum(slope * tangents[name], axis=rows.keywords["axis"], keepdims=True)
                    for name, slope in zip(by, slopes, strict=True)
                )
                return sum(products, start=ops.zeros_like(one))

            return tuple(along(seed, sources) for seed, sources in self.of.COTANGENTS.items())

        return self.rows(ops, **given).walk(of_part)

    @in_parts
    def hvp(self, ops: Any, *, vector: Array, **given: Any) -> Array:
        """The Hessian by the features, times a vector."""
        (_, head), *_ = self.heads.items()

        def of_part(rows: Rows) -> tuple[Array, ...]:
            operands = {**rows.operands, "vector": rows.logits(Head(head.tangents.features, head.weight, ""))}
            hz = ops.evaluate(self.of.hvp, operands, **rows.keywords)
            return (rows.pulled(head, hz, (head.features,))[head.features],)

        return self.rows(ops, **given, **{head.tangents.features: vector}).walk(of_part)[0]

    def here(self, name: str) -> str:
        """What the formula's operand is called here."""
        return next((ours for ours, theirs in self.theirs.items() if theirs == name), name)

    def others(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The operands that make no logits, as the formula calls them."""
        made = {name for head in self.heads.values() for name in (*head, *head.tangents)}
        return {self.theirs.get(name, name): x for name, x in given.items() if name not in made}

    def rows(self, ops: Any, *, chunk_bytes: int, **given: Any) -> "Rows":
        """All rows of a call, the weights in the dtype of the arithmetic."""
        shared = {name for head in self.heads.values() for one in (head, head.tangents) for name in one[1:]}
        whole = {name: ops.astype(x, given["dtype"], copy=False) for name, x in given.items() if name in shared}
        options = {name: x for name, x in given.items() if name == "dtype" or not hasattr(x, "shape")}
        cut = {name: x for name, x in given.items() if name not in whole and name not in options}
        return Rows(ops, self, whole, cut, self.others(options), chunk_bytes or ops.chunk_bytes, ops.matmul)


class Rows(NamedTuple):
    """Some rows of a call: what the whole call shares, and what is cut."""

    ops: Any
    formula: Linear
    whole: Mapping[str, Array]  # weights and biases
    cut: Mapping[str, Array]
    keywords: dict[str, Any]  # what is no array
    budget: int  # bytes that logits may take at a time
    multiply: Callable[..., Any]  # a product that is added up over rows

    def walk(self, of_part: Callable[["Rows"], tuple[Array, ...]], by: tuple[str, ...] = ()) -> tuple[Array, ...]:
        """What a function makes of so many rows at a time, put together.

        The last results are derivatives, which are added up by an operand that all rows share.
        """
        head = next(iter(self.formula.heads.values()))
        batch, size = self.cut[head.features].shape[:-1], self.whole[head.weight].shape[0]
        if not batch or not all(isinstance(n, int) and n > 0 for n in batch):
            return of_part(self)
        place = max(range(len(batch)), key=lambda d: batch[d])
        row = prod(batch) // batch[place] * size * self.ops.finfo(self.keywords["dtype"]).bits // 8
        count = min(batch[place], -(-batch[place] * max(row, 1) // self.budget))
        cut = {name: x for name, x in self.cut.items() if x.ndim > 0 and x.shape[place] == batch[place]}

        def of(part: Mapping[str, Array], multiply: Callable[..., Any]) -> tuple[Array, ...]:
            return of_part(self._replace(cut={**self.cut, **part}, multiply=multiply))

        added = tuple(n - len(by) for n, name in enumerate(by) if name not in cut)
        return self.ops.over_rows(of, cut, axis=place, count=count, added=added)

    @property
    def others(self) -> dict[str, Any]:
        """The operands that make no logits."""
        return self.formula.others(self.cut)

    @property
    def operands(self) -> dict[str, Any]:
        """All that the formula has."""
        return {**{name: self.logits(head) for name, head in self.formula.heads.items()}, **self.others}

    def logits(self, head: Head) -> Array:
        """X Wᵀ + b."""
        ops = self.ops
        z = ops.matmul(self.features(head), ops.matrix_transpose(self.whole[head.weight]))
        return z + self.whole[head.bias] if head.bias in self.whole else z

    def features(self, head: Head) -> Array:
        """In the dtype of the arithmetic."""
        return self.ops.astype(self.cut[head.features], self.keywords["dtype"], copy=False)

    def pushed(self, head: Head) -> Array:
        """The tangent of the logits."""
        moving, terms = head.tangents, []
        if moving.features in self.cut:
            terms.append(self.logits(Head(moving.features, head.weight, "")))
        if moving.weight in self.whole:
            terms.append(self.logits(Head(head.features, moving.weight, "")))
        if moving.bias in self.whole:
            still = () if terms else (self.ops.zeros_like(self.logits(head)),)
            terms += [self.whole[moving.bias], *still]
        return sum(terms[1:], start=terms[0])

    def pulled(self, head: Head, dz: Array, by: tuple[str, ...]) -> dict[str, Array]:
        """Derivatives by features, weights and bias."""
        ops, x = self.ops, self.features(head)
        flat = flattened(ops, dz)
        rules: dict[str, Callable[[], Array]] = {
            head.features: lambda: ops.matmul(dz, self.whole[head.weight]),
            head.weight: lambda: self.multiply(ops.matrix_transpose(flat), flattened(ops, x)),
            head.bias: lambda: ops.sum(flat, axis=0),
        }
        return {name: rule() for name, rule in rules.items() if name in by}


def flattened(ops: Any, x: Array) -> Array:
    """The rows of all axes but the last as one; where there is nothing, how many rows it would not tell by itself."""
    return ops.reshape(x, (0 if 0 in x.shape[:-1] else prod(x.shape[:-1]) if 0 in x.shape else -1, x.shape[-1]))


cross_entropy = Linear(
    "cross_entropy", cross_entropy_formula, {"logits": Head("features", "weight", "bias")}, {"weight": "class_weight"}
)
log_probability = Linear("log_probability", log_probability_formula, {"logits": Head("features", "weight", "bias")})
kl_divergence = Linear(
    "kl_divergence",
    divergences_formula,
    {
        "p_logits": Head("p_features", "p_weight", "p_bias"),
        "q_logits": Head("q_features", "q_weight", "q_bias"),
    },
)
