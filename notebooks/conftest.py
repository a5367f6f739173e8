"""Notebooks under nbmake must produce their kept results."""

from __future__ import annotations

import nbformat
import nbmake.nb_run
import pytest
from nbmake.nb_result import NotebookError, NotebookResult
from nbmake.pytest_items import NotebookFailedException
from notebook_results import differences


# First: pytest-xdist reads the groups in this hook, too.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Group tests for pytest-xdist's ``--dist=loadgroup``: by file, all notebooks as one.

    Tests of a file share its fixtures, notebooks share a store.
    """
    for item in items:
        group = "notebooks" if item.path.suffix == ".ipynb" else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


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
    if found := differences(nbformat.read(item.path, 4), executed["notebook"]):
        trace = "; ".join(found) + "\npython tests/notebook_results.py refreshes what notebooks keep"
        error = NotebookError(summary=found[0], trace=trace, failing_cell_index=0)
        raise NotebookFailedException(NotebookResult(nb=executed["notebook"], error=error))
    return outcome
