"""Notebooks under nbmake must produce their kept results."""

from __future__ import annotations

import nbformat
import nbmake.nb_run
import pytest
from nbmake.nb_result import NotebookError, NotebookResult
from nbmake.pytest_items import NotebookFailedException
from notebook_results import differences
from xdist.scheduler import LoadFileScheduling


class FileByFile(LoadFileScheduling):
    """Give each process of pytest-xdist whole files, and all notebooks, which share a store, to one."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return "notebooks" if file.endswith(".ipynb") else file


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False
    return FileByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Give a notebook more time than a test, and begin a shared run with what takes long.

    Otherwise one process would end with a long file while the other has nothing left.
    """
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.timeout(900))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not _takes_long(item))


def _takes_long(item):
    markers = {marker.name for marker in item.iter_markers()}
    return item.path.suffix == ".ipynb" or bool(markers & {"engine", "browser"})


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
