"""Documentation of every public name."""

from __future__ import annotations

import inspect

import pytest

import captionkit as ck

CALLABLES = [name for name in ck.__all__ if callable(getattr(ck, name))]

TABLES = [name for name in CALLABLES if "Parameters\n----" in (inspect.getdoc(getattr(ck, name)) or "")]


def _members(thing):
    for name, member in vars(thing).items():
        if name.startswith("_"):
            continue
        target = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(target):
            yield name, target


@pytest.mark.parametrize("name", CALLABLES)
def test_a_public_name_and_its_members_have_docstrings(name):
    thing = getattr(ck, name)
    assert len(inspect.getdoc(thing) or "") > 15
    if inspect.isclass(thing):
        for member, target in _members(thing):
            assert len(inspect.getdoc(getattr(thing, member)) or inspect.getdoc(target) or "") > 10, (
                member
            )


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_parameters_has_all_of_them(name):
    thing = getattr(ck, name)
    missing = [
        each
        for each in inspect.signature(thing).parameters
        if not each.startswith("_") and each not in inspect.getdoc(thing)
    ]
    assert missing == []


def test_help_of_a_session_reads_well():
    text = inspect.getdoc(ck.Session)
    assert text.startswith("Videos, a model and a store.")
    for part in ("Parameters", "source", "Raises"):
        assert part in text
    text = inspect.getdoc(ck.Session.caption)
    assert "Parameters" in text
    for each in ("prompt", "stage2", "windows", "batch_size", "fresh", "repeats"):
        assert each in text
