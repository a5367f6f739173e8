# ruff: noqa: B018
# %%
from fakes import FakeBackend
from IPython.display import HTML, display

import captionkit as ck
from captionkit.display import left_out_html
from captionkit.widgets.prompts_view import PromptsView
from captionkit.widgets.review_view import ReviewView

backend = FakeBackend()
backend.fail = {"8.53"}
session = ck.Session("data", backend=backend)
one = session.caption("short", stage2=True)
two = session.caption("default")
one.rate("harbour", 0, 4, reviewer="Ada")
one.rate("harbour", 0, 2, reviewer="Ben")
bench = ck.Workbench(session)
bench
# %%
compared = [ck.CompareView(session) for _ in range(4)]
for view, mode in zip(compared, compared[0].mode.options, strict=True):
    view.show("harbour", 0)
    view.mode.value = mode
    view.run_a.value, view.run_b.value = one.id, two.id
compared[3].blind.begin.click()
swept = ck.SweepView(session)
swept.sizes.value, swept.fp8.value = (1, 4), True
swept.measure()
searched = ck.SearchView(session)
faulty = ck.ExportPanel(session)
faulty.path.value = ""
faulty.export()
tuner = ck.Tuner(session)
tuner._more.value = tuner._code_button.value = tuner.two_stages.value = True
replacing = ReviewView(session)
views = [
    *compared,
    swept,
    searched,
    faulty,
    ck.ExportPanel(session),
    tuner,
    replacing,
    PromptsView(session),
]
for view in views:
    display(view)
# %%
assert all(view.board.idle(60) for view in views)
report = one.export("report.html", "html")
for each in (
    session, session.windows, session.captions, one, one.captions, one.checks, one.human,
    one.report(), ck.compare(one, two), session.matrix(["short", "default"]), swept.result,
    swept.result.table, ck.ab(one, two), ck.runs(session.store), ck.prompts_tried(session.store),
    HTML(left_out_html({"a.mp4": "broken"})),
):  # fmt: skip
    display(each)
