"""Marks on functions of formulas, which tell backends what not to cut for them."""

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def whole_rows(function: Function) -> Function:
    """It sorts, scans or gathers along the class axis, so that rows may not be taken in pieces."""
    return _marked(function, "needs_whole_rows")


def in_parts(function: Function) -> Function:
    """It takes so many rows at a time by itself, from all of them."""
    return _marked(function, "loops")


def _marked(function: Function, mark: str) -> Function:
    setattr(function, mark, True)
    return function
