"""Hints for misspelt names: "did you mean …?"."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)


def hint(name: object, known: Iterable[object]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known name nearest to one that is not known.

    An empty text if no known name is near.
    """
    names = {str(each).lower(): str(each) for each in known}
    near = difflib.get_close_matches(str(name).lower(), names, n=1)
    return f" (did you mean {names[near[0]]!r}?)" if near else ""


def hinted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function name the nearest of its parameters where a call has an unknown one."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **settings: Any) -> Any:
        unknown = [name for name in settings if name not in signature.parameters]
        if unknown:
            raise TypeError(
                f"{function.__qualname__} has no argument {unknown[0]!r}"
                f"{hint(unknown[0], signature.parameters)}"
            )
        return function(*args, **settings)

    return call


def hinted_class(cls: _Class) -> _Class:
    """Make a class name the nearest of its parameters where a call has an unknown one."""
    cls.__init__ = hinted(cls.__init__)  # type: ignore[misc]
    return cls
