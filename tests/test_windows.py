"""Windows tile a video, and samples spread over them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captionkit.sources.windows import WindowSpan, compute_windows, sample_frames, windows_of_seconds

totals = st.integers(0, 20_000)
sizes = st.integers(4, 2_000)
thresholds = st.integers(0, 2_000)


@given(totals, sizes, thresholds)
def test_windows_tile_the_video_with_no_gap_or_overlap(total, size, threshold):
    spans = compute_windows(total, size, threshold)
    if total < 4:
        assert spans == []
        return
    covered = [frame for span in spans for frame in range(span.start, span.end + 1)]
    assert covered == list(range(total))


@given(totals, sizes, thresholds)
def test_only_the_last_window_may_differ_in_length(total, size, threshold):
    spans = compute_windows(total, size, threshold)
    assert all(len(span) == size for span in spans[:-1])
    if spans and total > size:
        least = min(size, max(threshold, 4))
        assert least <= len(spans[-1]) < size + max(threshold, 4)


@pytest.mark.parametrize(
    ("total", "spans"),
    [
        (0, []),
        (3, []),
        (4, [(0, 3)]),
        (256, [(0, 255)]),
        (257, [(0, 256)]),
        (383, [(0, 382)]),
        (384, [(0, 255), (256, 383)]),
        (512, [(0, 255), (256, 511)]),
        (639, [(0, 255), (256, 638)]),
        (640, [(0, 255), (256, 511), (512, 639)]),
    ],
)
def test_windows_at_the_edges_of_the_rule(total, spans):
    assert [(span.start, span.end) for span in compute_windows(total)] == spans


@given(
    st.integers(0, 10_000),
    st.integers(4, 5_000),
    st.floats(0.01, 10_000),
    st.floats(0.01, 60),
)
def test_samples_are_even_in_number_distinct_and_span_the_window(start, length, seconds, rate):
    span = WindowSpan(start, start + length - 1)
    frames = sample_frames(span, seconds, rate)
    assert len(frames) % 2 == 0
    assert 4 <= len(frames) <= min(768, length)
    assert frames[0] == span.start
    assert frames[-1] == span.end
    gaps = [b - a for a, b in itertools.pairwise(frames)]
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


def test_two_samples_a_second_by_default():
    assert len(sample_frames(WindowSpan(0, 239), 8.0)) == 16


@pytest.mark.parametrize(
    "settings",
    [{"window_size": 0}, {"window_size": -1}, {"window_size": 3}, {"remainder_threshold": -1}],
)
def test_invalid_windows_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        compute_windows(100, **settings)


def test_a_window_that_ends_before_it_begins_has_no_frames_to_sample():
    assert len(WindowSpan(50, 20)) == 0
    with pytest.raises(ValueError, match="a window of 0 frames cannot be sampled; 4 needed"):
        sample_frames(WindowSpan(50, 20), 1.0)


@pytest.mark.parametrize("rate", [0, -2.0, float("nan"), float("inf")])
def test_an_invalid_sampling_rate_is_refused(rate):
    with pytest.raises(ValueError, match="sampling_fps"):
        sample_frames(WindowSpan(0, 99), 4.0, rate)


VARIABLE = np.array([n * 0.04 for n in range(100)] + [4.0 + n for n in range(50)])


def test_frames_at_a_variable_rate_are_sampled_by_time():
    span = WindowSpan(1000, 1149)
    frames = sample_frames(span, 54.0, 2.0, VARIABLE)
    seconds = VARIABLE[np.array(frames) - 1000]
    assert len(frames) == 108
    assert (frames[0], frames[-1]) == (1000, 1149)
    assert frames == sorted(frames)
    # Models take the steps between frames as equal: each frame is on screen at its moment.
    even = np.arange(108) * 0.5
    until = np.append(VARIABLE, 54.0)[np.array(frames) - 999]
    assert ((seconds <= even) & (even < until)).all()
    assert (seconds < 4).sum() == 8


@given(st.lists(st.floats(0.01, 5), min_size=4, max_size=200))
def test_each_frame_sampled_at_a_variable_rate_is_on_screen_at_its_moment(gaps):
    starts = np.concatenate([[0.0], np.cumsum(gaps)])
    times, seconds = starts[:-1], float(starts[-1])
    frames = np.array(sample_frames(WindowSpan(0, len(times) - 1), seconds, 2.0, times))
    moments = np.arange(len(frames)) * seconds / len(frames)
    early, late = times[frames] - moments, moments - starts[frames + 1]
    # By number where that is as true to a frame and 0.1 s, as at a constant rate.
    assert max(early.max(), late.max()) <= 1e-5 or np.ptp(gaps) < 0.4


def test_a_still_that_follows_an_even_window_is_sampled_by_time():
    times = np.arange(256) / 25
    frames = np.array(sample_frames(WindowSpan(0, 255), 30.2, 2.0, times))
    moments = np.arange(len(frames)) * 30.2 / len(frames)
    until = np.append(times[1:], 30.2)[frames]
    assert (times[frames] <= moments + 1e-6).all()
    assert (moments < until).all()


def test_frames_of_a_slow_uneven_film_are_sampled_by_time():
    times = np.array([0.0, 1.7, 2.3, 3.7, 4.3, 5.7, 6.3, 7.7])
    assert sample_frames(WindowSpan(0, 7), 8.3, 1.0, times) == [0, 0, 1, 2, 3, 4, 5, 6]


@given(
    st.integers(4, 3_000),
    st.sampled_from([23.976, 25, 29.97, 30, 60, 1]),
    st.floats(0.1, 30),
    st.sampled_from([1, 1000, 90_000]),
)
def test_a_constant_rate_samples_by_number_whatever_rounds_its_times(length, rate, sampling, base):
    times = np.round(np.arange(length) / rate * base * 100) / base / 100
    span = WindowSpan(0, length - 1)
    assert sample_frames(span, length / rate, sampling, times) == sample_frames(
        span, length / rate, sampling
    )


@given(st.lists(st.floats(0.001, 3), min_size=4, max_size=300), st.floats(0.05, 40))
def test_windows_of_seconds_tile_the_frames(gaps, seconds):
    times = np.cumsum(gaps)
    spans = windows_of_seconds(times, seconds, seconds / 2)
    assert [n for span in spans for n in range(span.start, span.end + 1)] == list(range(len(times)))
    assert all(len(span) >= 4 for span in spans)


def test_windows_of_seconds_last_as_long_as_asked_at_any_rate():
    spans = windows_of_seconds(VARIABLE, 10.0, 5.0)
    assert [(span.start, span.end) for span in spans] == [
        (0, 105), (106, 115), (116, 125), (126, 135), (136, 149),
    ]  # fmt: skip
    assert [len(span) for span in windows_of_seconds(np.arange(300) / 25, 4.0, 2.0)] == [100, 100, 100]
    assert [len(span) for span in windows_of_seconds(np.arange(220) / 25, 4.0, 2.0)] == [100, 120]
    assert windows_of_seconds(np.arange(3) / 25, 4.0, 2.0) == []
    with pytest.raises(ValueError, match="window_seconds is 0"):
        windows_of_seconds(VARIABLE, 0, 1)
