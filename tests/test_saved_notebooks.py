"""Notebook 7: the workbench live, and a saved notebook opened again without its kernel."""

from __future__ import annotations

import json
import shutil
import time

import pytest
from common import ROOT, VIDEOS

pytest.importorskip("playwright", reason='needs a browser: pip install -e ".[cpu,test]"')
pytest.importorskip("notebook", reason='needs Notebook 7: pip install -e ".[cpu,test]"')
from lab import Lab, chromium
from playwright.sync_api import expect, sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.timeout(280, method="thread")]

ARTEFACTS = ROOT / ".artefacts"
SAID = "at 8.53."


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seven")
    (folder / "data").mkdir()
    shutil.copy(VIDEOS / "harbour.mp4", folder / "data" / "harbour.mp4")
    made = Lab(folder, "notebook")
    yield made
    made.close()


def until(condition):
    """Wait for a condition outside the page."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_notebook_7_opens_the_workbench_captions_and_shows_results_again_without_a_kernel(
    seven, browser
):
    ARTEFACTS.mkdir(exist_ok=True)
    name = seven.write("saved")
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.goto(f"http://127.0.0.1:{seven.port}/notebooks/{name}?token={seven.token}")
    prompt = page.locator(".jp-CodeCell .jp-InputPrompt").first

    def started():
        # Notebook 7 drops a press before its kernel is connected, and shows nothing of that.
        if prompt.text_content() == "[ ]:":
            page.locator(".jp-CodeCell .jp-InputArea-editor").first.click()
            page.keyboard.press("Control+Enter")
            page.wait_for_timeout(500)
        return prompt.text_content() != "[ ]:"

    until(started)
    listed = page.get_by_role("listbox", name="Windows")
    expect(listed.get_by_role("option").first).to_contain_text("harbour 0")
    page.get_by_role("button", name="All windows").click()
    expect(listed.get_by_role("option").nth(1)).to_contain_text(SAID)
    twin = page.locator("[class^=ck-twin]")
    # The live view is shown alone.
    expect(twin).to_contain_text(SAID)
    expect(twin).to_be_hidden()
    page.screenshot(path=ARTEFACTS / "notebook-7.png")
    path = seven.folder / name

    page.get_by_role("button", name="Save and create checkpoint").click()
    until(lambda: SAID in path.read_text())
    cell = json.loads(path.read_text())["cells"][0]
    live = [
        each for each in cell["outputs"] if "application/vnd.jupyter.widget-view+json" in each["data"]
    ]
    assert len(live) == 1
    assert live[0]["data"]["text/html"]
    page.close()
    seven.shutdown_kernels()
    again = browser.new_page(viewport={"width": 1280, "height": 1000})
    again.goto(f"http://127.0.0.1:{seven.port}/notebooks/{name}?token={seven.token}")
    expect(again.locator("[class^=ck-twin]")).to_be_visible()
    expect(again.locator("[class^=ck-twin]")).to_contain_text(SAID)
    expect(again.locator("[class^=ck-twin] img").first).to_be_visible()
    expect(again.get_by_text("VBox(")).to_have_count(0)
    again.screenshot(path=ARTEFACTS / "notebook-7-saved.png")
    again.close()
