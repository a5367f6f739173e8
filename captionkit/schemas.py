"""JSON schemas of strangers: validate without network, without foreign files, in bounded time.

A recipe or a store may come from anybody. References lead nowhere outside the schema; sizes, time, the
references that are followed and what a pattern grows to are limited.
"""

from __future__ import annotations

import functools
import json
import math
import re
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

# Characters of a schema or a text; a caption has some hundreds.
_LONGEST = 200_000
# Levels of objects and lists in each other. Readers and writers of JSON fail at about a thousand.
_DEEPEST = 100
# Seconds of this thread's own work on a caption and on a schema; sound ones take milliseconds.
_CAPTION_S = 2.0
_SCHEMA_S = 10.0
# Seconds for all patterns of a caption; a sound pattern takes microseconds.
_PATTERNS_S = 0.5
# References that one caption follows; a chain of doubling references would follow millions.
_REFERENCES = 20_000
# Characters that a pattern has once its repeated parts are written out, as the library does.
_PATTERN_SIZE = 500_000
_LONGEST_REASON = 300
_LEAST_TIMES = re.compile(r"\{\s*(\d+)")
_REFERRING = ("$ref", "$dynamicRef", "$recursiveRef")


class _BoundError(Exception):
    """Raised when a caption takes too long to check."""


def check_schema(content: dict[str, Any]) -> None:
    """Check a JSON schema.

    Raises
    ------
    ValueError
        If it is not a JSON schema, refers to anything outside itself, is too long, is nested too
        deeply, or has a pattern that grows too large.
    """
    from jsonschema.exceptions import best_match

    if too_deep(content):
        raise ValueError(f"schema is nested too deeply: more than {_DEEPEST} levels")
    try:
        size = len(json.dumps(content))
    except (TypeError, ValueError) as error:
        raise ValueError(f"schema is not a JSON schema: {error}") from error
    if size > _LONGEST:
        raise ValueError(f"schema has {size:,} characters; it may have {_LONGEST:,}")
    for name, target in _references(content):
        if not target.startswith("#"):
            raise ValueError(
                f"schema refers to {target[:60]!r} ({name}); only references inside the schema, "
                "as #/$defs/NAME, are followed: put the definition there"
            )
    try:
        found = best_match(_of_schemas().iter_errors(content))
    except (_BoundError, RecursionError) as error:
        raise ValueError(f"schema takes too long to check: {error}") from error
    if found is not None:
        where = "/".join(map(str, found.absolute_path)) or "its top"
        raise ValueError(f"schema is not a JSON schema: {_short(found.message)} (at {where})")


def misfit(content: dict[str, Any], schema: str) -> str | None:
    """Return how an object violates a schema, or None; also says if the check had to be stopped."""
    if len(schema) > _LONGEST:
        return f"not checked: the schema has more than {_LONGEST:,} characters"
    try:
        found = next(_validator(schema).iter_errors(content), None)
        if found is None:
            return None
        where = "/".join(map(str, found.absolute_path))
        return _short(f"{where}: {found.message}" if where else str(found.message))
    except _BoundError as error:
        return f"not checked: {error}"
    except RecursionError:
        return "not checked: the schema or the text is nested too deeply"
    # A schema of a stranger may hold anything: a reference to nothing, a pattern that is not one.
    except Exception as error:
        return _short(f"not checked: the schema cannot be applied ({type(error).__name__}: {error})")


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object of a text.

    Raises
    ------
    ValueError
        If the text is not a JSON object, or one that is too long or too deep to be worked with.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"not checked: {len(text):,} characters, of which {_LONGEST:,} are allowed")
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    if too_deep(content):
        raise ValueError(f"not checked: nested too deeply, more than {_DEEPEST} levels")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def too_deep(content: Any) -> bool:
    """Return whether a value of JSON has too many levels; also for one that contains itself."""
    todo = [(content, 1)]
    while todo:
        each, level = todo.pop()
        if level > _DEEPEST:
            return True
        if isinstance(each, (dict, list)):
            parts = each.values() if isinstance(each, dict) else each
            todo += [(part, level + 1) for part in parts if isinstance(part, (dict, list))]
    return False


def _short(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"


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
    """Bounds the work on one caption, or on one schema."""

    def __init__(self, seconds: float, references: float = _REFERENCES) -> None:
        # Count the thread's own work: a busy machine must not make a sound caption fail.
        self._end = time.thread_time() + seconds
        self.references = references
        self.seconds = _PATTERNS_S

    def step(self) -> None:
        if time.thread_time() > self._end:
            raise _BoundError("the schema takes too long")

    def follow(self) -> None:
        self.references -= 1
        if self.references < 0:
            raise _BoundError(f"the schema follows more than {_REFERENCES:,} references")

    def matches(self, pattern: str, text: str) -> bool:
        compiled = _compiled(pattern)
        begin = time.monotonic()
        try:
            return compiled.search(text, timeout=max(self.seconds, 0.001)) is not None
        except TimeoutError:
            raise _BoundError(f"the pattern {pattern[:60]!r} takes too long") from None
        finally:
            self.seconds -= time.monotonic() - begin


@functools.lru_cache(maxsize=64)
def _compiled(pattern: str) -> Any:
    """Compile a pattern, unless its memory would grow without a limit."""
    import regex  # type: ignore[import-untyped]

    size = math.prod(max(int(times), 1) for times in _LEAST_TIMES.findall(pattern)) * len(pattern)
    if size > _PATTERN_SIZE:
        raise _BoundError(f"the pattern {pattern[:60]!r} repeats too much")
    return regex.compile(pattern)


def _is_pattern(pattern: object) -> bool:
    try:
        return not isinstance(pattern, str) or bool(_compiled(pattern))
    except _BoundError:
        raise
    # The library raises errors of many kinds: overflow, recursion, memory and its own.
    except Exception:
        return False


@functools.lru_cache(maxsize=64)
def _content(schema: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(schema)
    return content


def _validator(schema: str) -> Any:
    """Return a validator with a budget of its own, for one caption."""
    from referencing import Registry

    # An own registry is empty: without one, jsonschema fetches what a schema refers to.
    return _bounded(_Budget(_CAPTION_S))(_content(schema), registry=Registry())


def _of_schemas() -> Any:
    """Return a validator of schemas, with a budget for one."""
    from jsonschema import Draft202012Validator, FormatChecker

    formats = FormatChecker(formats=())
    formats.checks("regex")(_is_pattern)
    bounded = _bounded(_Budget(_SCHEMA_S, math.inf))
    return bounded(Draft202012Validator.META_SCHEMA, format_checker=formats)


def _bounded(budget: _Budget) -> Any:
    from jsonschema import Draft202012Validator, validators

    extend: Any = validators.extend
    made = extend(Draft202012Validator, _bounded_rules(budget))
    # The library's own takes the unbounded rules wherever a part of the schema has a "$schema".
    made.evolve = _evolved
    return made


def _evolved(validator: Any, **changes: Any) -> Any:
    own = validator.__attrs_attrs__
    given = {each.alias: getattr(validator, each.name) for each in own if each.init}
    return type(validator)(**{**given, **changes})


def _mark(value: Any) -> Hashable:
    """Return the same for equal values of JSON: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(value, dict):
        return dict, frozenset((key, _mark(each)) for key, each in value.items())
    if isinstance(value, list):
        return list, tuple(map(_mark, value))
    return (bool, value) if isinstance(value, bool) else value


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

    def unevaluated(name: str) -> Callable[..., Any]:
        def rule(validator: Any, target: Any, instance: Any, schema: Any) -> Iterator[Any]:
            # The library would search patterns and follow references without a limit here.
            raise _BoundError(f"{name} is not checked")

        return rule

    def unique(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        # The library compares each item with each other one.
        if wanted and isinstance(instance, list) and len(set(map(_mark, instance))) < len(instance):
            yield ValidationError("the list has equal items")

    def any_of(validator: Any, rules: Any, instance: Any, schema: Any) -> Iterator[Any]:
        # The library keeps all errors of all parts, each with the text in it.
        if not any(validator.evolve(schema=each).is_valid(instance) for each in rules):
            yield ValidationError("the value is not valid under any of the given schemas")

    def one_of(validator: Any, rules: Any, instance: Any, schema: Any) -> Iterator[Any]:
        count = sum(validator.evolve(schema=each).is_valid(instance) for each in rules)
        if count != 1:
            yield ValidationError(f"the value is valid under {count} of the given schemas, not one")

    def stepping(rule: Callable[..., Any]) -> Callable[..., Any]:
        def bounded(*facts: Any) -> Any:
            budget.step()
            return rule(*facts)

        return bounded

    rules = {
        **own,
        "$ref": following("$ref"),
        "$dynamicRef": following("$dynamicRef"),
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": more_properties,
        "unevaluatedItems": unevaluated("unevaluatedItems"),
        "unevaluatedProperties": unevaluated("unevaluatedProperties"),
        "uniqueItems": unique,
        "anyOf": any_of,
        "oneOf": one_of,
    }
    return {name: stepping(rule) for name, rule in rules.items()}
