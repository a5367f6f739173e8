"""Notebooks under nbmake also have to produce the results that they keep."""

from __future__ import annotations

import nbformat
import nbmake.nb_run
import pytest
from notebook_results import differences


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    executed = {}
    run = nbmake.nb_run.NotebookRun.execute

    def execute(self):
        result = run(self)
        executed["notebook"] = result.nb
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nbmake.nb_run.NotebookRun, "execute", execute)
        outcome = yield
    found = differences(nbformat.read(item.path, 4), executed["notebook"])
    assert not found, "; ".join(found) + "; python tests/notebook_results.py refreshes them"
    return outcome
