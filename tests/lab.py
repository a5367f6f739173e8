"""A real JupyterLab on loopback, a real browser, and a notebook with a user's actions."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

WAIT_MS = 90_000
# Wait for a condition on a machine of any speed.
expect.set_options(timeout=WAIT_MS)


TESTS = Path(__file__).parent


def cells(name: str) -> list[str]:
    """Return the cells of a file in ``cells/``; each begins with ``# %%``."""
    return (TESTS / "cells" / f"{name}.py").read_text().split("# %%\n")[1:]


# Controls that lie upon each other, and words that their box cuts off.
SPOILT = """
() => {
  const parts = '.ck-bench :is(button, input, select, textarea, .widget-label, .lm-TabBar-tab,'
    + ' .ckb-title, .ckb-label, .ckb-count, .ckb-said, .ckb-text)';
  const seen = [...document.querySelectorAll(parts)].filter((each) => each.checkVisibility({
    visibilityProperty: true}) && each.getBoundingClientRect().width > 2
    && !each.closest('.ckb-list, .ckb-help'));
  const name = (each) => each.ariaLabel || each.title || each.textContent || each.placeholder
    || each.className;
  const found = [];
  seen.forEach((one, at) => {
    const a = one.getBoundingClientRect();
    if (one.scrollWidth > one.clientWidth + 1 && one.matches('button, .widget-label, .lm-TabBar-tab'))
      found.push(`cut: ${name(one)}`);
    for (const two of seen.slice(at + 1)) {
      if (one.contains(two) || two.contains(one)) continue;
      const b = two.getBoundingClientRect();
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 1) found.push(`upon each other: ${name(one)} and ${name(two)}`);
    }
  });
  return found;
}
"""


def sticking_out(page: Page) -> list[str]:
    """Return the classes of what sticks out of the workbench to the right."""
    return page.evaluate(
        "() => { const box = document.querySelector('.ck-bench').getBoundingClientRect();"
        " const parts = '.ckb *, .ck-tuner *, .ck-tabs .ck-box *';"
        " return [...document.querySelectorAll(parts)].filter((each) => {"
        " const own = each.getBoundingClientRect();"
        " return own.width && own.right > box.right + 1 && !each.closest('.ck-scroll > *'); })"
        ".map((each) => each.className); }"
    )


def chromium() -> str:
    found = shutil.which("chromium")
    assert found, "no chromium here: apt-get install chromium (CI does)"
    return found


class Lab:
    """JupyterLab, or Notebook 7, in a folder; ends with its kernels."""

    def __init__(self, folder: Path, app: str = "lab") -> None:
        self.folder = folder
        self.token = secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        home = folder / ".home"
        home.mkdir(parents=True)
        self.log = (home / "lab.log").open("wb")
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter", app, "--no-browser", "--allow-root",
                "--ip=127.0.0.1", f"--port={self.port}", "--ServerApp.port_retries=0",
                f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={self.token}",
                "--LabApp.news_url=", "--LabApp.expose_app_in_browser=True",
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            ],
            stdout=self.log, stderr=self.log, cwd=folder, start_new_session=True,
            env={**os.environ, "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_DATA_DIR": str(home),
                 "JUPYTERLAB_SETTINGS_DIR": str(home), "JUPYTERLAB_WORKSPACES_DIR": str(home),
                 "JUPYTER_RUNTIME_DIR": str(home), "IPYTHONDIR": str(home),
                 "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
        )  # fmt: skip
        until = time.monotonic() + 90
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api", timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, (home / "lab.log").read_text()
                time.sleep(0.1)
        raise AssertionError("JupyterLab did not start: " + (home / "lab.log").read_text())

    def write(self, name: str) -> str:
        """Write a file of `cells` into the folder as a notebook; return the notebook's name."""
        content = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "cells": [
                {"cell_type": "code", "id": f"c{n}", "source": source, "metadata": {},
                 "outputs": [], "execution_count": None}
                for n, source in enumerate(cells(name))
            ],
        }  # fmt: skip
        (self.folder / f"{name}.ipynb").write_text(json.dumps(content))
        return f"{name}.ipynb"

    def open(
        self, browser: Browser, name: str, *, width: int = 1280, dark: bool = False, before: str = ""
    ) -> Notebook:
        """Open a notebook in a new page, which runs the script ``before`` first."""
        settings = self.folder / ".home" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        theme = "JupyterLab Dark" if dark else "JupyterLab Light"
        (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
        page = browser.new_page(viewport={"width": width, "height": 1000})
        page.set_default_timeout(WAIT_MS)
        page.add_init_script(before)
        # Take a new workspace, which opens no documents of an earlier page.
        workspace = secrets.token_hex(4)
        page.goto(
            f"http://127.0.0.1:{self.port}/lab/workspaces/{workspace}/tree/{name}?token={self.token}"
        )
        return Notebook(self, page, name)

    def shutdown_kernels(self) -> None:
        base = f"http://127.0.0.1:{self.port}/api/kernels"
        headers = {"Authorization": f"token {self.token}"}
        with urllib.request.urlopen(
            urllib.request.Request(base, headers=headers), timeout=60
        ) as answer:
            kernels = json.load(answer)
        for kernel in kernels:
            request = urllib.request.Request(f"{base}/{kernel['id']}", headers=headers, method="DELETE")
            urllib.request.urlopen(request, timeout=60).close()

    def close(self) -> None:
        self.shutdown_kernels()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            # Jupyter's server does not always leave; it must not outlive its tests.
            self._process.kill()
            self._process.wait(30)
        finally:
            self.log.close()


class Notebook:
    """An open notebook."""

    def __init__(self, lab: Lab, page: Page, name: str) -> None:
        self.lab = lab
        self.page = page
        self.name = name
        expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=WAIT_MS)
        indicator = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        expect(indicator).to_be_visible(timeout=WAIT_MS)

    def cell(self, number: int) -> Locator:
        return self.page.locator(".jp-CodeCell").nth(number)

    def start(self, number: int) -> Locator:
        """Start a cell and return the cell at once."""
        cell = self.cell(number)
        cell.locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Control+Enter")
        return cell

    def run(self, number: int) -> Locator:
        """Run a cell, and return the cell after its end."""
        cell = self.cell(number)
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.text_content()
        self.start(number)
        self.page.wait_for_function(
            "([cell, before]) => { const now = cell.querySelector('.jp-InputPrompt').textContent;"
            " return now !== before && /\\[\\d+\\]/.test(now); }",
            arg=[cell.element_handle(), before],
            timeout=WAIT_MS,
        )
        return cell

    def output(self, number: int) -> str:
        """Return the text that a cell printed."""
        return (self.cell(number).locator(".jp-OutputArea-output").first.text_content() or "").strip()

    def put_on(self, theme: str) -> None:
        """Change the theme: ``Light`` or ``Dark``."""
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})",
            f"JupyterLab {theme}",
        )
        light = str(theme == "Light").lower()
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-light", light)
        # The lab covers the page while a theme loads.
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)

    def save(self) -> Path:
        self.page.keyboard.press("Control+s")
        expect(self.page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(0, timeout=WAIT_MS)
        return self.lab.folder / self.name

    def close(self) -> None:
        self.page.close()
