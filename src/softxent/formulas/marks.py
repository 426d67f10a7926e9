"""Marks on functions of formulas, which tell backends how to cut the rows for them."""

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def whole_rows(function: Function) -> Function:
    """It sorts, scans or gathers along the class axis, so that rows may not be taken in pieces."""
    return _marked(function, "needs_whole_rows")


def in_parts(function: Function) -> Function:
    """It takes so many rows at a time by itself, from all of them."""
    return _marked(function, "loops")


def one_a_logit(function: Function) -> Function:
    """Its result has one value a logit, so that temporaries can lie there."""
    return _marked(function, "one_a_logit")


def _marked(function: Function, mark: str) -> Function:
    setattr(function, mark, True)
    return function
