"""PyTorch: autograd, gathers and scatters, labels of wide unsigned dtypes, values that compilers and vmap hide."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any

import array_api_compat.torch as namespace
import torch
from torch.autograd import forward_ad

from softxent import workers
from softxent.backends import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from softxent.backends.generic import Foresee, Formula

Array = Any

_numpy: Any = None
_IN_NUMPY: dict[torch.dtype, Any] = {}
with suppress(ImportError):  # torch does without
    from softxent.backends import numpy

    _numpy = numpy.backend()
    _numpy.entries //= 2  # of few classes temporaries come to a good part of what there is
    _IN_NUMPY = {
        getattr(torch, name): numpy.registered(name, None)
        for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
    }

_PLAIN = {torch.Tensor, torch.nn.Parameter}
_INCOMPARABLE = {torch.uint16, torch.uint32, torch.uint64}  # torch has no order on these


class Backend(blocks.Backend):
    """PyTorch tensors, eager, compiled or inside torch.func."""

    name = "torch"
    kinds = torch.Tensor
    lends = True  # small calls, to NumPy
    plain_sums = False
    entries = 2**21  # torch's own threads want work to share
    enough = 1  # at once: these threads share a block
    few = 0  # NumPy, which is faster at it, moves classes for torch
    # Entries of logits up to which NumPy takes a whole call or, where it cannot, torch's autograd on the formula is
    # faster than a rule.
    small = 2**14

    def stop_gradient(self, x: Array) -> Array:
        """Detached from reverse and forward mode; the same tensor where neither looks on."""
        if self.private:
            return x
        return x.detach() if (x.requires_grad and torch.is_grad_enabled()) or _is_transformed() else x

    def argmax(self, x: Array, *, axis: int, keepdims: bool = False) -> Array:
        """NumPy's, where it can look: several times as fast, and twenty times where the classes come first."""
        if self.private and _numpy is not None and type(seen := x.detach()) is torch.Tensor:
            found = _numpy.argmax(seen.numpy(), axis=axis, keepdims=keepdims)
            return torch.from_numpy(found.astype("int64", copy=False))
        return torch.argmax(x, dim=axis, keepdim=keepdims)

    def take_along_axis(self, x: Array, index: Array, *, axis: int) -> Array:
        """By gather, which wants int64, and rows that match: take_along_dim would make a dynamic size a constant."""
        rows = tuple(x.shape[d] if d == axis % x.ndim else index.shape[d] for d in range(x.ndim))
        return torch.gather(x.expand(rows), axis, index.to(torch.int64))

    def put_along_axis(self, x: Array, index: Array, value: Array | float, *, axis: int) -> Array:
        """By scatter, in place where nothing but us has seen the array; a compiler fuses a choice and no scatter."""
        if torch.compiler.is_compiling():
            return super().put_along_axis(x, index, value, axis=axis)
        tensors = [one for one in (x, index, value) if isinstance(one, torch.Tensor)]
        recorded = not self.private and (any(one.requires_grad for one in tensors) or _transformed(*tensors))
        scatter = torch.scatter if recorded else torch.Tensor.scatter_
        return scatter(x, axis, index.to(torch.int64), value)

    def concat(self, arrays: list[Array], *, axis: int) -> Array:
        """By cat, which the vmap of is_grads_batched knows by no other name."""
        return torch.cat(arrays, dim=axis)

    def segment_sum(self, x: Array, index: Array, count: int, *, axis: int) -> Array:
        """In parts, since each is added to one by one."""
        parts, at = self.places(index, x.shape[axis], count)
        shape = (*x.shape[:axis], count * parts, *x.shape[axis + 1 :])
        found = x.new_zeros(shape).index_add(axis, at.to(torch.int64), x)
        return found.reshape((*shape[:axis], count, parts, *shape[axis + 1 :])).sum(dim=axis + 1)

    def segment_max(self, x: Array, index: Array, count: int, *, axis: int) -> Array:
        """By scatter."""
        at = index.to(torch.int64).reshape(tuple(-1 if d == axis else 1 for d in range(x.ndim))).expand(x.shape)
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        return x.new_full(shape, -inf).scatter_reduce(axis, at, x, "amax")

    def isfinite(self, x: Array) -> Array:
        """In two operations, where the library's own takes four."""
        return x - x == 0

    def writable(self, operands: Mapping[str, Any]) -> bool:
        """In host memory, with no graph to record."""
        tensors = [x for x in operands.values() if isinstance(x, torch.Tensor)]
        recorded = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
        return tensors[0].device.type == "cpu" and not recorded and not _transformed(*tensors)

    def evaluate(self, function: Callable[..., Any], operands: Mapping[str, Any], *, axis: int, **static: Any) -> Any:
        """Few classes by NumPy, on the same memory; rows in parts unseen by a compiler, which would fuse them again."""
        if torch.compiler.is_compiling() and getattr(function, "loops", False):
            return self._unseen(function, operands, axis=axis, **static)  # pragma: no cover - traced by Dynamo
        if getattr(function, "loops", False) or not self._is_lent(operands, axis):
            return super().evaluate(function, operands, axis=axis, **static)
        with _threads():
            found = _numpy.evaluate(function, _lent(operands), axis=axis, **_lent(static))
        return _returned(found)

    def derived(
        self,
        function: Callable[..., Any],
        operands: Mapping[str, Any],
        *,
        by: tuple[str, ...],
        axis: int,
        **static: Any,
    ) -> tuple[Array, ...]:
        """The same."""
        if getattr(function, "loops", False) or not self._is_lent(operands, axis):
            return super().derived(function, operands, by=by, axis=axis, **static)
        with _threads():
            found = _numpy.derived(function, _lent(operands), by=by, axis=axis, **_lent(static))
        return tuple(map(_returned, found))

    def _unseen(self, function: Any, operands: Any, **static: Any) -> Any:  # pragma: no cover - traced by Dynamo
        """By one operation of a compiled graph."""
        tensors = {name: x for name, x in operands.items() if isinstance(x, torch.Tensor)}
        keywords = {**{name: x for name, x in operands.items() if name not in tensors}, **static}
        key = _noted(function.__self__.address, function.__name__, tuple(tensors), tuple(keywords.items()))
        return tuple(_in_parts(list(tensors.values()), key))

    def _is_lent(self, operands: Mapping[str, Any], axis: int) -> bool:
        """Whether NumPy, which moves few classes first, is to work on these tensors, and can."""
        logits, *_ = operands.values()
        if self.private or _numpy is None or not self.few < logits.shape[axis] <= _numpy.few:
            return False
        tensors = [x for x in operands.values() if isinstance(x, torch.Tensor)]
        plain = all(type(x) in _PLAIN and x.dtype in _IN_NUMPY for x in tensors)
        return plain and logits.numel() >= self.worth_moving and self.writable(operands) and not _is_watched()

    def scalar(self, value: Any, like: Array, dtype: Any) -> Array:
        """Made on the device: a copy from the host would wait for it."""
        return torch.full((), value, dtype=dtype, device=like.device)

    def add_to(self, whole: Array, x: Array | blocks.Product) -> None:
        """A product without an array of its own."""
        if isinstance(x, blocks.Product):
            whole.addmm_(*x)
        else:
            whole += x

    def comparable(self, integers: Array) -> Array:
        """Wide unsigned integers as int64."""
        return integers.to(torch.int64) if integers.dtype in _INCOMPARABLE else integers

    def oddity(self, x: Array) -> str | None:
        """Sparse tensors."""
        return None if x.layout is torch.strided else f"a {x.layout} tensor; pass its .to_dense()"

    def device(self, x: Array) -> Any:
        """The tensor's device."""
        return x.device

    def floating_dtype(self, name: str, dtype: Any, like: Array) -> Any:  # noqa: ARG002 - all devices
        """As torch names it."""
        return getattr(torch, name, None)

    def is_portable(self, x: Array) -> bool:
        """Torch mixes 0-d CPU tensors with any device."""
        return bool(x.ndim == 0 and x.device.type == "cpu")

    def is_readable(self, x: Array) -> bool:
        """Only eager CPU tensors: elsewhere a look synchronises or breaks the graph."""
        return bool(x.device.type == "cpu" and not torch.compiler.is_compiling())

    def read(self, condition: Array) -> bool | None:
        """The value, unless the tensor is fake or batched by vmap, or a graph is being traced."""
        if torch.compiler.is_compiling():
            return None  # pragma: no cover - traced by Dynamo
        try:
            return bool(condition)
        except RuntimeError:
            return None

    def bounds(self, integers: Array) -> tuple[int, int] | None:
        """In one look, unless the tensor is fake or batched by vmap, or a graph is being traced."""
        if torch.compiler.is_compiling() or integers.numel() == 0:
            return None
        small = _numpy is not None and type(integers) is torch.Tensor and integers.numel() <= self.small
        try:
            if small and not _is_watched() and not _is_transformed(integers):
                return _numpy.bounds(integers.numpy(force=True))  # in half the time
            low, high = torch.aminmax(self.comparable(integers))
            return int(low), int(high)
        except RuntimeError:
            return None

    def traits(self, x: Array) -> Any:
        """All that is to be told of a plain tensor, and torch's default dtype; a compiler is not to guard that."""
        if torch.compiler.is_compiling() or type(x) not in _PLAIN or x.layout is not torch.strided or x.is_neg():
            return None
        return type(x), x.dtype, x.shape, x.stride(), x.device, torch.get_default_dtype()

    def replays(self, call: Any) -> bool:
        """Small ones that NumPy can do, on the same memory: there operations start in a third of the time."""
        if not self.lends or _numpy is None or torch.compiler.is_compiling():
            return False
        logits = call.arguments[call.like]
        if logits.numel() > self.small or logits.device.type != "cpu" or getattr(call.formula.value, "loops", False):
            return False
        dtypes = {x.dtype for x in call.arrays(self.kinds).values()}
        dtypes |= {x for x in (*dict(call.static).values(), *call.ending) if isinstance(x, torch.dtype)}
        return dtypes <= _IN_NUMPY.keys()

    def at_once(self, function: Callable[..., Any], call: Any, *details: Any) -> Any:
        """A small call by a program of NumPy's, unless somebody looks on."""
        alike = call.alike
        if alike is None or not self.lends:
            return function(call.made, *details)
        tensors = call.inputs
        if _is_watched() or _is_transformed(*tensors):
            return function(call.made, *details)
        wanted = torch.is_grad_enabled() and tuple(
            [name for name, x in zip(alike.names, tensors, strict=True) if x.requires_grad]
        )
        if not wanted:
            return _replayed(_numpy.program(function, call, *details, lent=_call_lent), tensors)
        empty = call.empty
        known = set().union(*empty.formula.COTANGENTS.values()) & set(empty.given)
        if details or not empty.ending.is_one_array or not set(wanted) <= known:
            return function(call.made, *details)
        return _SmallRule.apply(empty, wanted, alike.names, *map(_kept, tensors))

    def run(
        self,
        formula: Formula,
        operands: Mapping[str, Any],
        *,
        axis: int,
        by_products: bool = False,
        foresee: Foresee | None = None,
        **static: Any,
    ) -> Any:
        """By the formula's own derivatives where any are wanted, unless the call is small or has by-products."""
        tensors = {name: x for name, x in operands.items() if isinstance(x, torch.Tensor)}
        wanted = torch.is_grad_enabled() and any(x.requires_grad for x in tensors.values())
        small = not getattr(formula.value, "loops", False) and self._is_small(next(iter(tensors.values())))
        if by_products or not wanted or small:
            return self.evaluate(formula.value, operands, axis=axis, **static)
        numbers = {name: x for name, x in operands.items() if name not in tensors}
        unseen = _transformed(*tensors.values()) or next(iter(tensors.values())).device.type != "cpu"
        by = () if unseen else tuple(name for name, x in tensors.items() if x.requires_grad)
        call = _Call(self, formula, tuple(tensors), {**numbers, **static, "axis": axis}, foresee, by)
        rule = _TracedRule if torch.compiler.is_compiling() else _Rule
        return rule.apply(call, *[_kept(x) for x in tensors.values()])

    def _is_small(self, logits: Array) -> bool:
        """Not where a compiler would have to remember the answer."""
        return not torch.compiler.is_compiling() and logits.numel() <= self.small

    def default_float(self, like: Array) -> Any:  # noqa: ARG002 - a setting of the process
        """What torch.set_default_dtype says."""
        return torch.get_default_dtype()


def _lent(given: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors as arrays of the same memory, torch's dtypes as NumPy's."""

    def lent(x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return x.numpy(force=True)
        return _IN_NUMPY[x] if isinstance(x, torch.dtype) else x

    return {name: lent(x) for name, x in given.items()}


def _call_lent(call: Any) -> Any:
    """A call of the same arrays as NumPy's."""
    return call._replace(
        form=call.form._replace(backend=_numpy),
        arguments=_lent(call.arguments),
        denominator=_lent({"": call.denominator})[""],
        given=_lent(call.given),
        static=tuple(_lent(dict(call.static)).items()),
        ending=type(call.ending)(**_lent(call.ending._asdict())),
    )


def _replayed(program: Callable[..., Any], tensors: Iterable[Array]) -> Any:
    """What a program of NumPy's makes of tensors."""
    return _returned(program(*[x.numpy(force=True) for x in tensors]))


def _returned(found: Any) -> Any:
    """NumPy's arrays as tensors of the same memory, in tuples or not."""
    return tuple(map(_returned, found)) if isinstance(found, tuple) else torch.from_numpy(_numpy.adopt(found))


def _threads() -> AbstractContextManager[None]:
    """No more than torch may use itself."""
    return workers.threads(min(torch.get_num_threads(), workers.allowed()))


def _transformed(*tensors: Array) -> bool:
    """Whether a compiler, a transform of torch.func or forward mode looks on, to whom writing would be visible.

    The vmap behind is_grads_batched is none of torch.func's, and tells by the tensors alone.
    """
    return torch.compiler.is_compiling() or _is_transformed(*tensors)


def _is_transformed(*tensors: Array) -> bool:
    """The same but for a compiler, which sees all that we do: of transforms it traces, grad and jvp show otherwise."""
    transforms = torch._C._functorch  # noqa: SLF001 - there is no public way to ask
    return (
        (not torch.compiler.is_compiling() and transforms.peek_interpreter_stack() is not None)
        or _is_forward_mode()
        or any(transforms.is_legacy_batchedtensor(x) for x in tensors)
    )


def _is_watched() -> bool:
    """Whether make_fx, torch.jit or a mode is to see every operation; not to be asked inside a compiler."""
    stack = torch._C._len_torch_dispatch_stack()  # noqa: SLF001 - there is no public way to ask
    return bool(stack > 0 or torch.jit.is_tracing())


def _kept(x: Array) -> Array:
    """As autograd can keep it."""
    foreign = not torch.compiler.is_compiling() and x.is_inference() and not torch.is_inference_mode_enabled()
    return x.clone() if foreign else x


def _is_forward_mode() -> bool:
    return bool(forward_ad._current_level >= 0)  # noqa: SLF001 - there is no public way to ask


# -- derivatives ------------------------------------------------------------------------------------------------------


@dataclass
class _Call:
    """A formula and what it is run on beside tensors: everything about a call that has no derivative.

    Where the cotangents can be told beforehand, the derivatives come with the value, for one backward pass: on the CPU,
    where that can look at the cotangents that it gets without waiting for a device.
    """

    backend: Backend
    formula: Formula
    names: tuple[str, ...]  # of the tensors
    keywords: dict[str, Any]  # numbers, options, the axis
    foresee: Foresee | None
    by: tuple[str, ...]  # tensors that a backward pass will want derivatives by
    made: tuple[tuple[Array, ...], dict[str, Array]] | None = None  # the cotangents foreseen; derivatives for them

    def operands(self, tensors: tuple[Array, ...]) -> dict[str, Array]:
        return dict(zip(self.names, tensors, strict=True))

    def value(self, tensors: tuple[Array, ...]) -> Any:
        seeds = self.foresee(self.by) if self.by and self.foresee is not None else None
        if seeds is not None:
            cotangents = dict(zip(self.formula.COTANGENTS, seeds, strict=True))
            operands = self.operands(tensors)
            results, found = self.backend.visit(self.formula, cotangents, operands, by=self.by, **self.keywords)
            self.made = seeds, dict(zip(self.by, found, strict=True))
            return results if len(results) > 1 else results[0]
        return self.backend.evaluate(self.formula.value, self.operands(tensors), **self.keywords)

    def pull(self, cotangents: tuple[Array, ...], tensors: tuple[Array, ...], by: tuple[str, ...]) -> dict[str, Array]:
        """Derivatives by the tensors named."""
        seeds = dict(zip(self.formula.COTANGENTS, cotangents, strict=False))  # further results have none
        found = self.backend.pull(self.formula, seeds, self.operands(tensors), by=by, **self.keywords)
        return dict(zip(by, found, strict=True))

    def handed_over(self, cotangents: tuple[Array, ...]) -> dict[str, Array] | None:
        """The derivatives made with the value, if they are still there and serve for these cotangents.

        They are linear in the cotangent of the loss. Where it is not the one foreseen they are scaled in place, and
        downwards only: upwards, digits would be missing that the smallest numbers have lost.
        """
        made, self.made = self.made, None
        if made is None or torch.is_grad_enabled() or _transformed(*cotangents):
            return None
        (foreseen, *_), derivatives = made
        first, *others = cotangents
        sources = list(self.formula.COTANGENTS.values())[1:]
        if any(by & set(derivatives) and bool(torch.any(g)) for by, g in zip(sources, others, strict=False)):
            return None
        uniform = all(stride == 0 or size == 1 for stride, size in zip(first.stride(), first.shape, strict=True))
        factor = (first[(slice(0, 1),) * first.ndim] if uniform else first) / foreseen
        if bool(torch.all(factor == 1)):
            return derivatives
        of_rows = set(derivatives) == {self.names[0]}  # no row has a share in another's
        if not bool(torch.all(torch.abs(factor) <= 1)) or not (uniform or of_rows):
            return None
        for x in derivatives.values():
            x.mul_(factor if of_rows else factor.reshape(()))
        return derivatives

    def push(self, tangents: dict[str, Array], tensors: tuple[Array, ...]) -> tuple[Array, ...]:
        """Tangents of the results that have one."""
        operands = self.operands(tensors)
        pushforward = getattr(self.formula, "pushforward", None)
        if pushforward is not None:
            named = {f"t_{name}": t for name, t in tangents.items()}
            found = self.backend.evaluate(pushforward, {**operands, **named}, **self.keywords)
            return found if isinstance(found, tuple) else (found,)
        return tuple(self._of_rows(result, tangents, operands) for result in self.formula.COTANGENTS)

    def _of_rows(self, result: str, tangents: dict[str, Array], operands: dict[str, Array]) -> Array:
        """A result of one value a row has the gradient times the tangents, added up along the row."""
        logits, axis = next(iter(operands.values())), self.keywords["axis"]
        one = torch.ones((1,) * logits.ndim, dtype=self.keywords["dtype"], device=logits.device)
        seeds = {name: one if name == result else torch.zeros_like(one) for name in self.formula.COTANGENTS}
        by = tuple(tangents)
        found = self.backend.evaluate(self.formula.pullback, {**operands, **seeds}, by=by, **self.keywords)
        return sum(torch.sum(g * t, dim=axis, keepdim=True) for g, t in zip(found, tangents.values(), strict=True))


def _mark_constants(ctx: Any, output: Any) -> None:
    """Mark what has no derivative by the tensors that move: it shall have no graph."""
    ctx.constant = None
    if isinstance(output, tuple):
        # In forward mode what moves has a tangent, which vmap does not let anybody look at: anything may have one.
        named = zip(ctx.call.names, ctx.needs_input_grad[1:], strict=True)
        names = set(ctx.call.names) if _is_forward_mode() else {name for name, moves in named if moves}
        sources = list(ctx.call.formula.COTANGENTS.values())
        sources += [set()] * (len(output) - len(sources))  # results beyond these have no derivative
        ctx.constant = [not names & by for by in sources]
        ctx.mark_non_differentiable(*(y for y, constant in zip(output, ctx.constant, strict=True) if constant))


class _TracedRule(torch.autograd.Function):
    """Every formula's rule for autograd, as torch.compile and torch.export trace it."""

    @staticmethod
    def forward(call: _Call, *tensors: Array) -> Any:
        """The value."""
        return call.value(tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept but the arguments."""
        ctx.call, *tensors = inputs
        ctx.save_for_backward(*tensors)
        _mark_constants(ctx, output)

    @staticmethod
    def backward(ctx: Any, *cotangents: Array) -> tuple[Array | None, ...]:
        """The pullback, which autograd differentiates again where it is asked to."""
        call = ctx.call
        by = tuple(name for name, needed in zip(call.names, ctx.needs_input_grad[1:], strict=True) if needed)
        tensors = ctx.saved_tensors  # an error if one has been changed since
        found = call.handed_over(cotangents) if by == call.by else None
        if found is None:
            found = call.pull(cotangents, tensors, by)
        return (None, *(found.get(name) for name in call.names))


class _Rule(_TracedRule):
    """The same with forward mode and vmap, for eager calls."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """As above, and the arguments for the pushforward."""
        _TracedRule.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Array | None) -> Any:
        """The pushforward."""
        call = ctx.call
        moving = {name: t for name, t in zip(call.names, tangents, strict=True) if t is not None}
        found = call.push(moving, ctx.saved_tensors)
        if ctx.constant is None:
            return found[0]
        found += (None,) * (len(ctx.constant) - len(found))
        return tuple(None if constant else t for constant, t in zip(ctx.constant, found, strict=True))


class _SmallRule(torch.autograd.Function):
    """The rule of a small call as a whole, which NumPy takes; of one value, the derivatives come with it."""

    @staticmethod
    def forward(ctx: Any, call: Any, by: tuple[str, ...], names: tuple[str, ...], *tensors: Array) -> Any:
        """The value."""
        ctx.call, ctx.by, ctx.names = call, by, names
        ctx.save_for_backward(*tensors)
        at_once, again = call.form.backend.at_once, call.again(tensors)
        if call.ending.is_one_value:
            value, ctx.made = at_once(type(call).value_and_pulled, again, by)
            return value
        ctx.made = None
        return at_once(type(call).valued, again)

    @staticmethod
    def backward(ctx: Any, g: Array) -> tuple[Array | None, ...]:
        """The derivatives that are there already, or the pullback, which autograd can differentiate again."""
        tensors = ctx.saved_tensors  # an error if one has been changed since
        made, ctx.made = ctx.made, None
        if made is not None and not torch.is_grad_enabled() and not _is_transformed(g) and float(g) == 1:
            found = made
        else:
            call = ctx.call.again(tensors).made.seeded(g)
            found = call.form.backend.at_once(type(call).pulled, call, ctx.by)
        derivatives = dict(zip(ctx.by, found, strict=True))
        return None, None, None, *(derivatives.get(name) for name in ctx.names)


# -- what a compiler is not to see ------------------------------------------------------------------------------------

_NOTED: list[tuple[Any, ...]] = []


@torch.compiler.assume_constant_result
def _noted(address: tuple[str, str], method: str, names: tuple[str, ...], keywords: tuple[tuple[str, Any], ...]) -> int:
    """A number for a formula's function, the names of its tensors, and its further arguments."""
    entry = address, method, names, keywords
    if entry not in _NOTED:
        _NOTED.append(entry)
    return _NOTED.index(entry)


def _played(key: int, tensors: list[Array], **others: Any) -> list[Array]:
    (module, name), method, names, keywords = _NOTED[key]
    function = getattr(getattr(import_module(module), name), method)
    operands = {**dict(zip(names, tensors, strict=True)), **dict(keywords), **others}
    found: tuple[Array, ...] = function(_ONE, **operands)
    return list(found)


@torch.library.custom_op("softxent::in_parts", mutates_args=())
def _in_parts(tensors: list[torch.Tensor], key: int) -> list[torch.Tensor]:
    """What the function makes of tensors."""
    return _played(key, tensors)


@_in_parts.register_fake
def _(tensors: list[torch.Tensor], key: int) -> list[torch.Tensor]:
    """Shapes and dtypes of that, from all rows at once."""
    return _played(key, tensors, chunk_bytes=2**62)


_ONE = Backend(namespace)


def backend() -> Backend:
    """The one instance."""
    _ONE.keep_freed_memory()
    return _ONE
