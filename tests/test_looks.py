"""How all views look: contrast, focus, arrows and motion, in a real browser from computed styles."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from common import ROOT, VIDEOS
from PIL import Image

pytest.importorskip("playwright", reason='needs a browser: pip install -e ".[cpu,test]"')
from lab import Lab, chromium
from playwright.sync_api import expect, sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.timeout(280, method="thread")]

ARTEFACTS = ROOT / ".artefacts"
# Defines `faint`: texts whose contrast to what is behind them is below 4.5, and controls whose edge and
# ground are both below 3; `ringless`: whether the focused element has no ring of contrast 3.
EYES = """{
const pen = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const read = (colour) => {
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const opacity = (each) =>
  each ? Number(getComputedStyle(each).opacity) * opacity(each.parentElement) : 1;
const over = (top, under, faded = 1) =>
  [0, 1, 2].map((n) => top[n] * top[3] * faded + under[n] * (1 - top[3] * faded));
// The page's own ground, which follows its colour scheme.
const page = document.body.appendChild(document.createElement('div'));
page.style.background = 'Canvas';
const behind = (each) => {
  const layers = [];
  for (let at = each; at; at = at.parentElement) {
    const layer = read(getComputedStyle(at).backgroundColor);
    layer[3] *= opacity(at);
    layers.push(layer);
    if (layer[3] === 1) break;
  }
  const ground = read(getComputedStyle(page).backgroundColor);
  return layers.reduceRight((under, top) => over(top, under), ground);
};
const light = (colour) => {
  const [r, g, b] = colour.map((each) => {
    const part = each / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, two) => {
  const [low, high] = [light(one), light(two)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const name = (each) =>
  `${each.tagName}.${each.className} ${(each.textContent || each.placeholder || '').slice(0, 30)}`;
const seen = (each) => each && each.checkVisibility({visibilityProperty: true});
const FIELDS = 'input[type=text], input[type=number], input[type=search], select, textarea, button';
window.faint = (root) => {
  const found = new Set();
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const check = (each, style, ground) => {
    const ratio = contrast(over(read(style.color), ground, opacity(each)), ground);
    if (ratio < 4.5) found.add(`text ${ratio.toFixed(1)} ${name(each)}`);
  };
  while (texts.nextNode()) {
    const each = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !seen(each) || each.matches('style, script')) continue;
    check(each, getComputedStyle(each), behind(each));
  }
  for (const each of root.querySelectorAll('input, textarea')) {
    if (!seen(each)) continue;
    if (each.value) check(each, getComputedStyle(each), behind(each));
    else if (each.placeholder) check(each, getComputedStyle(each, '::placeholder'), behind(each));
  }
  for (const each of root.querySelectorAll(FIELDS)) {
    if (!seen(each)) continue;
    const style = getComputedStyle(each), ground = behind(each.parentElement);
    const edge = over(read(style.borderTopColor), ground, opacity(each));
    const drawn = parseFloat(style.borderTopWidth) ? contrast(edge, ground) : 1;
    const ratio = Math.max(drawn, contrast(behind(each), ground));
    if (ratio < 3 && !each.matches('.ckb-stars button, [role=link]'))
      found.add(`edge ${ratio.toFixed(1)} ${name(each)}`);
  }
  return [...found];
};
window.ringless = (root) => {
  const each = document.activeElement;
  if (!root.contains(each)) return [];
  const {outlineStyle, outlineWidth, outlineColor} = getComputedStyle(each);
  const drawn = outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2;
  const ground = behind(each.parentElement);
  if (drawn && contrast(over(read(outlineColor), ground), ground) >= 3) return [];
  return [`${name(each)} ${outlineStyle} ${outlineWidth} ${outlineColor}`];
};
window.moving = (root) => [...root.querySelectorAll('*')].filter((each) => {
  const style = getComputedStyle(each);
  const slow = style.transitionDuration.split(', ').some((time) => parseFloat(time) > 0);
  return seen(each) && (slow && style.transitionProperty !== 'none' || style.animationName !== 'none'
    || style.scrollBehavior === 'smooth');
}).map(name);
window.crooked = (root) => [...root.querySelectorAll('th, td, th *, td *')].filter((each) => {
  const {textAlign, wordBreak, overflowWrap, hyphens} = getComputedStyle(each);
  return !['left', 'start'].includes(textAlign) || wordBreak !== 'normal'
    || overflowWrap === 'anywhere' || hyphens === 'auto';
}).map(name);
window.name = name;
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def looks(browser, tmp_path_factory):
    """A notebook with every view and every result that shows itself."""
    ARTEFACTS.mkdir(exist_ok=True)
    folder = tmp_path_factory.mktemp("looks")
    (folder / "data").mkdir()
    shutil.copy(VIDEOS / "harbour.mp4", folder / "data" / "harbour.mp4")
    (folder / "data" / "broken.mp4").write_bytes(b"no film")
    lab = Lab(folder)
    try:
        notebook = lab.open(browser, lab.write("looks"))
        for number in range(3):
            notebook.run(number)
        # Live views hide what a saved notebook shows instead of them.
        expect(notebook.page.locator("[class^=ck-twin]").locator("visible=true")).to_have_count(0)
        notebook.page.add_script_tag(content=EYES)
        yield notebook
        notebook.close()
    finally:
        lab.close()


def outputs(looks):
    """Yield what each cell shows."""
    for number in range(3):
        cell = looks.cell(number)
        cell.scroll_into_view_if_needed()
        yield cell.locator(".jp-Cell-outputArea").first


@pytest.fixture(params=["Light", "Dark"], scope="module")
def themed(looks, request):
    looks.put_on(request.param)
    looks.theme = request.param
    return looks


def test_all_texts_and_controls_stand_out(themed):
    themed.page.get_by_role("button", name="Keys").click()
    for number, output in enumerate(outputs(themed)):
        themed.page.screenshot(path=ARTEFACTS / f"looks-{themed.theme}-{number}.png")
        assert output.evaluate("(each) => faint(each)") == []
    themed.page.get_by_role("button", name="Close the keys").click()


def test_texts_controls_and_rings_of_the_report_stand_out(looks, browser):
    for theme in ("light", "dark"):
        page = browser.new_page(color_scheme=theme)
        page.goto((looks.lab.folder / "report.html").as_uri())
        # The page's own policy forbids scripts that are added to it.
        page.evaluate("() => " + EYES)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        page.screenshot(path=ARTEFACTS / f"looks-report-{theme}.png")
        body = page.locator("body")
        assert body.evaluate("(each) => faint(each)") == []
        assert body.evaluate("(each) => crooked(each)") == []
        for _ in range(4):
            page.keyboard.press("Tab")
            assert body.evaluate("(each) => ringless(each)") == []
        page.close()


def test_tables_are_aligned_left_and_break_no_words(looks):
    for output in outputs(looks):
        assert output.locator("table").count() > 0
        assert output.evaluate("(each) => crooked(each)") == []


def test_arrows_and_boxes_of_fields_are_visible(themed):
    seen = 0
    for output in outputs(themed):
        for view in output.locator(".ckb, .ck-look").all():
            for kind in ("select:not([multiple])", "input[type=checkbox]", "input[type=range]"):
                field = view.locator(kind).locator("visible=true").first
                if field.count():
                    assert strongest(field, kind) >= 3, (kind, field.evaluate("name"))
                    seen += 1
    assert seen > 15


def strongest(field, kind):
    """The contrast of a field's own drawing to its ground; of a select only where its arrow is."""
    pixels = np.asarray(Image.open(io.BytesIO(field.screenshot())).convert("RGB"))
    if kind.startswith("select"):
        pixels = pixels[3:-3, -22:-3]
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    parts = colours / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    light = linear @ [0.2126, 0.7152, 0.0722]
    ground = light[counts.argmax()]
    return ((np.maximum(light, ground) + 0.05) / (np.minimum(light, ground) + 0.05)).max()


def test_each_field_that_is_tabbed_to_has_a_ring(themed):
    for output in list(outputs(themed))[:2]:
        output.locator("button, input, select").locator("visible=true").first.focus()
        output.evaluate(
            "(root) => { window.bare = []; window.stops = 0; root.addEventListener('focusin', () => {"
            " stops += 1; bare.push(...ringless(root)); }); }"
        )
        while output.evaluate("(root) => root.contains(document.activeElement)"):
            for _ in range(10):
                themed.page.keyboard.press("Tab")
        assert output.evaluate("() => bare") == []
        assert themed.page.evaluate("stops") > 30


def test_nothing_moves_where_less_motion_is_asked_for(looks):
    page = looks.page
    page.emulate_media(reduced_motion="reduce")
    for output in outputs(looks):
        assert output.evaluate("(root) => moving(root)") == []
    # A bar without a value moves to and fro.
    page.locator(".ck-tuner").first.evaluate(
        "(each) => { each.insertAdjacentHTML('beforeend', "
        "'<div class=ck-progress><progress></progress></div>'); }"
    )
    expect(page.locator(".ck-tuner > .ck-progress progress")).to_be_hidden()
    page.get_by_label("What to play").first.select_option("clip")
    video = page.locator(".ckb-screen video").first
    page.wait_for_function("(video) => video.readyState >= 2", arg=video.element_handle())
    assert video.evaluate("(video) => video.paused")
