"""Figures of frames and measurements, without pyplot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    packed = io.BytesIO()
    figure.savefig(packed, format="png", dpi=100)
    return packed.getvalue()


# Settings of a search that a figure shows, the best first.
_MOST_NAMED = 24


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure that a notebook shows, sizes in inches.

    Avoid pyplot, which keeps unclosed figures in memory and shows them twice. The subclass draws
    itself, because IPython cannot show a plain figure without pyplot.
    """
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            return png(self)

    return Shown(figsize=(width, height), layout="constrained")


def frames_figure(pixels: NDArray[np.uint8], seconds: Sequence[float]) -> Figure:
    """Draw frames (uint8 of shape (frames, 3, height, width)) in rows of eight, with their times."""
    columns = min(8, len(pixels))
    rows = -(-len(pixels) // columns)
    high = pixels.shape[2] / pixels.shape[3] * 1.4 + 0.25
    figure = _figure(1.4 * columns, high * rows)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in cells:
        axes.axis("off")
    for axes, picture, second in zip(cells, pixels, seconds, strict=False):
        axes.imshow(picture.transpose(1, 2, 0))
        axes.set_title(f"{second:.1f} s", fontsize=8)
    return figure


def report_figure(words: pd.Series, openings: pd.DataFrame) -> Figure:
    """Draw how long captions are, and how many begin alike."""
    figure = _figure(10, 3.5)
    left, right = figure.subplots(1, 2)
    left.hist(words, bins=min(30, max(1, int(words.max() - words.min()) + 1)))
    left.set(xlabel="words a caption", ylabel="captions")
    right.barh(list(openings["opening"])[::-1], list(openings["captions"])[::-1])
    right.set(xlabel="captions that begin so")
    return figure


def sweep_figure(table: pd.DataFrame) -> Figure:
    """Draw throughput and time a window by batch size, a line for each prompt, fp8 and cache state."""
    measured = table[table["windows_per_s"].notna()]
    if measured.empty:
        raise ValueError("no setting was measured; there is nothing to draw")
    figure = _figure(10, 4)
    left, right = figure.subplots(1, 2)
    styles: dict[str, Any] = {"cold": {"linestyle": "-"}, "warm": {"linestyle": "--"}}
    several = measured["prompt"].nunique() > 1, measured["fp8"].nunique() > 1
    for index, ((prompt, eight), group) in enumerate(measured.groupby(["prompt", "fp8"], sort=False)):
        for cache, line in group.groupby("cache", sort=False):
            name = [_shortened(prompt)] if several[0] else []
            name += ["fp8" if eight else "bf16"] if several[1] else []
            look = {"color": f"C{index}", "marker": "os^Dv"[index % 5], **styles[cache]}
            sizes = line["batch_size"].to_numpy()
            left.plot(sizes, line["windows_per_s"], label=", ".join([*name, cache]), **look)
            right.plot(sizes, line["seconds_p50"], **look)
            right.fill_between(
                sizes, line["seconds_p50"], line["seconds_p95"], alpha=0.12, color=f"C{index}"
            )
    for axes, title in ((left, "windows a second"), (right, "seconds a window, p50 to p95")):
        axes.set_title(title, loc="left")
        axes.set_xlabel("captions at once")
        axes.set_xscale("log", base=2)
        sizes = sorted(measured["batch_size"].unique())
        axes.set_xticks(sizes, map(str, sizes))
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def growth_figure(table: pd.DataFrame, slopes: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw CPU time and added memory of cases by the number of windows, on logarithmic axes.

    ``table`` has the columns case, windows, cpu_s and added_mb, ``slopes`` those of time and memory. A
    case of one size has no slopes and is left out.
    """
    known = table[table["case"].isin(list(slopes))]
    figure = _figure(11, 5)
    panels = (("cpu_s", 1e-3, "CPU seconds (slope)"), ("added_mb", 1, "MB added (slope)"))
    for side, axes in enumerate(figure.subplots(1, 2)):
        name, least, title = panels[side]
        for index, (case, some) in enumerate(known.groupby("case", sort=False)):
            axes.loglog(
                some["windows"], some[name].clip(lower=least), color=f"C{index}",
                marker="os^Dv<>Xp"[index % 9], label=f"{case} ({slopes[case][side]:.2f})",
            )  # fmt: skip
        axes.set_title(title, loc="left")
        axes.set_xlabel("windows")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    return figure


def search_figure(table: pd.DataFrame, metric: str) -> Figure:
    """Draw quality against tokens a window of a `search.Found.table`, with names and the front.

    A bar is the 95% interval of the distance to the leader.
    """
    measured = table[table[metric].notna() & table["tokens"].notna()]
    if measured.empty:
        raise ValueError("no setting was measured; there is nothing to draw")
    figure = _figure(10, 5)
    axes = figure.subplots()
    lead = measured[metric][measured["verdict"] == "leads"].max()
    front = measured[measured["front"]].sort_values("tokens")
    axes.step(front["tokens"], front[metric], where="post", color="C0", alpha=0.5)
    for number, row in enumerate(measured.head(_MOST_NAMED).to_dict("records"), 1):
        colour = "C0" if row["front"] else "0.45"
        if row["low"] == row["low"] and row["verdict"] != "leads":
            ends = [lead - row["high"], lead - row["low"]]
            axes.plot([row["tokens"]] * 2, ends, color=colour, alpha=0.35, linewidth=1)
        name = f"{number}  {_shortened(row['setting'], 44)}"
        look: dict[str, Any] = {
            "marker": "o" if row["front"] else "x",
            "color": colour,
            "linestyle": "",
        }
        axes.plot(row["tokens"], row[metric], label=name, **look)
        # Names would cover each other where many settings are as good.
        axes.annotate(
            str(number), (row["tokens"], row[metric]), fontsize=8, textcoords="offset points",
            xytext=(4, 4 if number % 2 else -10), color=colour,
        )  # fmt: skip
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    axes.set_xlabel("tokens a window, video and prompt included")
    axes.set_ylabel(f"{metric}, mean a caption")
    axes.set_title("What quality costs; settings on the line are the front", loc="left")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure


def _shortened(text: str, most: int = 32) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
