"""JSON schemas of strangers: validate without network, without foreign files, in bounded time.

A recipe or a store may come from anybody. References lead nowhere outside the schema, a pattern has a
time limit, and a caption follows a limited number of references.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

# Seconds for all patterns of a caption; a sound pattern takes microseconds.
_PATTERNS_S = 0.5
# References that one caption follows; a chain of doubling references would follow millions.
_REFERENCES = 20_000
_REFERRING = ("$ref", "$dynamicRef", "$recursiveRef")


class _BoundError(Exception):
    """Raised when a caption takes too long to check."""


def check_schema(content: dict[str, Any]) -> None:
    """Check a JSON schema.

    Raises
    ------
    ValueError
        If it is not a JSON schema, refers to anything outside itself, or is nested too deeply.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        for name, target in _references(content):
            if not target.startswith("#"):
                raise ValueError(
                    f"schema refers to {target[:60]!r} ({name}); only references inside the schema, "
                    "as #/$defs/NAME, are followed: put the definition there"
                )
        Draft202012Validator.check_schema(content)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top"
        raise ValueError(f"schema is not a JSON schema: {error.message} (at {where})") from error
    except RecursionError as error:
        raise ValueError("schema is nested too deeply") from error


def misfit(content: dict[str, Any], schema: str) -> str | None:
    """Return how an object violates a schema, or None; also says if the check had to be stopped."""
    try:
        found = next(_validator(schema).iter_errors(content), None)
        if found is None:
            return None
        where = "/".join(map(str, found.absolute_path))
        return f"{where}: {found.message}" if where else str(found.message)
    except _BoundError as error:
        return f"not checked: {error}"
    except RecursionError:
        return "not checked: the schema or the text is nested too deeply"
    # A schema of a stranger may hold anything: a reference to nothing, a pattern that is not one.
    except Exception as error:
        return f"not checked: the schema cannot be applied ({type(error).__name__}: {error})"


def _references(content: Any) -> Iterator[tuple[str, str]]:
    """Yield all references of a schema, by their keyword."""
    todo = [content]
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            yield from ((name, each[name]) for name in _REFERRING if isinstance(each.get(name), str))
            todo += each.values()
        elif isinstance(each, list):
            todo += each


class _Budget:
    """Bounds the work on one caption."""

    def __init__(self) -> None:
        self.references = _REFERENCES
        self.seconds = _PATTERNS_S

    def follow(self) -> None:
        self.references -= 1
        if self.references < 0:
            raise _BoundError(f"the schema follows more than {_REFERENCES:,} references")

    def matches(self, pattern: str, text: str) -> bool:
        import regex  # type: ignore[import-untyped]

        begin = time.monotonic()
        try:
            return regex.search(pattern, text, timeout=max(self.seconds, 0.001)) is not None
        except TimeoutError:
            raise _BoundError(f"the pattern {pattern[:60]!r} takes too long") from None
        finally:
            self.seconds -= time.monotonic() - begin


@functools.lru_cache(maxsize=64)
def _content(schema: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(schema)
    return content


def _validator(schema: str) -> Any:
    """Return a validator with a budget of its own, for one caption."""
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry

    extend: Any = validators.extend
    bounded = extend(Draft202012Validator, _bounded_rules(_Budget()))
    # An own registry is empty: without one, jsonschema fetches what a schema refers to.
    return bounded(_content(schema), registry=Registry())


def _bounded_rules(budget: _Budget) -> dict[str, Callable[..., Any]]:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

    own = Draft202012Validator.VALIDATORS

    def following(name: str) -> Callable[..., Any]:
        def rule(validator: Any, target: Any, instance: Any, schema: Any) -> Iterator[Any]:
            budget.follow()
            yield from own[name](validator, target, instance, schema) or ()

        return rule

    def pattern(validator: Any, wanted: str, instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, str) and not budget.matches(wanted, instance):
            yield ValidationError(f"{instance!r} does not match {wanted!r}")

    def pattern_properties(validator: Any, rules: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, dict):
            for wanted, rule in rules.items():
                for key, value in instance.items():
                    if budget.matches(wanted, key):
                        yield from validator.descend(value, rule, path=key, schema_path=wanted)

    def more_properties(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[Any]:
        patterns = schema.get("patternProperties") or {}
        if not isinstance(instance, dict) or not patterns:
            yield from own["additionalProperties"](validator, rule, instance, schema) or ()
            return
        known = schema.get("properties") or {}
        for key, value in instance.items():
            if key in known or any(budget.matches(each, key) for each in patterns):
                continue
            if isinstance(rule, dict):
                yield from validator.descend(value, rule, path=key)
            elif not rule:
                yield ValidationError(f"{key!r} is not one of the properties")

    def unevaluated(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[Any]:
        # The library would search patterns without a limit here.
        raise _BoundError("unevaluatedProperties is not checked")

    return {
        "$ref": following("$ref"),
        "$dynamicRef": following("$dynamicRef"),
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": more_properties,
        "unevaluatedProperties": unevaluated,
    }
