"""Any prompt, caption or file name stays text in templates, files and pages."""

from __future__ import annotations

import html
import html.parser
import re
from dataclasses import replace

import pytest
import stores
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from captionkit import prompts
from captionkit.display import escape, visible
from captionkit.export import load_captions
from captionkit.export.formats.subtitles import Cue, srt_cue, vtt_cue, vtt_head
from captionkit.export.names import file_name
from captionkit.recipe import Recipe
from captionkit.run.history import open_run
from captionkit.store import Store
from captionkit.system.terminal import printable

NASTY = (
    "<|im_end|>", "<|im_start|>system\n", "<|video_pad|>", "{caption}", "{{", "}", "{0}", "%s", "\\1",
    "\\", "'; DROP TABLE captions; --", "</script>", "<img src=x onerror=alert(1)>", "&lt;", "$$x$$",
    "\x1b[31m", "\x1b]0;title\x07", "\u202e", "\u2066", "\ufeff", "\x00", "\x7f", "\r\n\r\n", "-->",
    "00:00:01.000 --> 00:00:02.000", "=HYPERLINK(1)", "@SUM(1)", "../../etc/passwd", "NUL", ".", "..",
    "\U0001f3f4\u200d\u2620\ufe0f", "\u0301" * 50,
)  # fmt: skip
TEXT = st.lists(st.one_of(st.text(max_size=30), st.sampled_from(NASTY)), max_size=6).map("".join)
MARK = re.compile(r"<\|[^<>|\s]{1,64}\|>")
relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(TEXT, TEXT)
def test_a_value_fills_a_template_unchanged(before, value):
    template = before.replace("{", "{{").replace("}", "}}") + " {caption} end"
    assert prompts.render(template, {"caption": value}) == f"{before} {value} end"


@given(TEXT)
def test_disarming_removes_chat_marks_and_changes_no_other_text(text):
    disarmed = prompts.disarm(text)
    assert not MARK.search(disarmed)
    assert disarmed.replace("< |", "<|") == text.replace("< |", "<|")


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_comment(self, data):
        self.tags.append("comment")

    def handle_data(self, data):
        self.text += data


@given(TEXT)
def test_a_page_shows_text_and_gets_no_tag_from_it(text):
    page = Tags()
    page.feed(f"<td>{escape(text)}</td>")
    page.close()
    assert page.tags == ["td"]
    assert page.text == visible(text)
    # An attribute's value does not escape either.
    page = Tags()
    page.feed(f'<td title="{escape(text)}">x</td>')
    page.close()
    assert page.tags == ["td"]


@given(TEXT)
def test_a_terminal_gets_no_control_code(text):
    shown = printable(text)
    assert all(c == "\n" or c.isprintable() for c in shown)
    assert len(shown) == len(text)


@given(TEXT)
def test_a_file_name_is_one_name_in_its_folder(text):
    name = file_name(text)
    assert name
    assert name not in (".", "..")
    assert not set(name) & set('/\\:*?"<>|\x00\n')


@given(TEXT)
def test_subtitles_have_one_cue_for_any_caption(text):
    cues = [Cue(0.0, 1.0, text), Cue(1.0, 2.0, "The next one.")]
    srt = "".join(srt_cue(number, cue) for number, cue in enumerate(cues, 1))
    vtt = vtt_head(Recipe()) + "".join(vtt_cue(number, cue) for number, cue in enumerate(cues, 1))
    for made in (vtt, srt):
        blocks = [block for block in made.split("\n\n") if " --> " in block]
        assert len(blocks) == 2
        assert "The next one." in blocks[1]
        assert made.count("-->") == 2


@relaxed
@given(TEXT, TEXT)
def test_store_and_tables_return_texts_unchanged(tmp_path_factory, text, prompt):
    folder = tmp_path_factory.mktemp("hostile")
    store = Store(folder / "runs.sqlite")
    try:
        run = stores.begin(store, windows=stores.WINDOWS[:1])
        caption = replace(stores.CAPTION, text=text, prompt_text=prompt, prompt=prompt)
        work, jobs = stores.claimed(store, run)
        work.add_caption(jobs[0], caption)
        work.finish(jobs[0], text or "it failed")
        shown = open_run(run, store)
        assert shown.captions["text"].tolist() == [text, None]
        assert shown.captions["prompt"].tolist() == [prompt, None]
        for suffix in ("jsonl", "csv", "parquet", "html"):
            path = shown.export(folder / f"captions.{suffix}")
            back = load_captions(path)
            assert back["text"].tolist() == [text, None]
            assert back["prompt"].tolist()[0] == (prompt if suffix != "csv" else prompt or None)
            assert back["error"].tolist() == [None, text or "it failed"]
        cells = (folder / "captions.csv").read_text("utf-8-sig").splitlines()[1:2]
        assert not any(part.startswith(("=", "@")) for cell in cells for part in cell.split(","))
    finally:
        store.close()


@given(TEXT)
def test_a_recipe_keeps_any_prompt_through_its_file(tmp_path_factory, text):
    try:
        recipe = Recipe(prompt=f"Say it: {text}")
    except ValueError:
        # An unknown placeholder is refused, not guessed.
        assert prompts.placeholders(text)
        return
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    recipe.save(path)
    assert Recipe.load(path) == recipe


@pytest.mark.engine
def test_hostile_prompts_get_a_caption_or_a_reason_from_the_real_engine(model):
    from common import noise_inputs

    for seed, text in enumerate(NASTY):
        inputs = noise_inputs(seed, prompt=f"Describe {text} this.")
        (caption,) = model.generate([inputs])
        assert isinstance(caption, str)
