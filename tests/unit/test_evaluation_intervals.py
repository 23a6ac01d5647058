"""Bootstrap intervals against known distributions, and the way rows are resampled."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from codebackdoor.evaluation import intervals
from codebackdoor.evaluation.intervals import Sample, percentiles, resample


def sample(rows: np.ndarray, seed: int = 0) -> Sample:
    return Sample([f"s{column}" for column in range(rows.shape[1])], rows, np.random.default_rng(seed))


def mean(sums: dict[str, float]) -> float | None:
    return sums["s1"] / sums["s0"] if sums["s0"] else None


def test_the_interval_of_a_share_covers_it_in_about_95_percent_of_samples() -> None:
    truth, size, hits, trials = 0.3, 200, 0, 300
    draw = np.random.default_rng(1)
    for trial in range(trials):
        positive = draw.random(size) < truth
        rows = np.stack([np.ones(size, dtype=np.int64), positive.astype(np.int64)], axis=1)
        estimate = sample(rows, trial).estimate(mean, size)
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= truth <= estimate.high
    assert 0.91 <= hits / trials <= 0.98


def test_the_interval_of_a_share_has_the_width_of_the_binomial() -> None:
    size, positive = 1000, 400
    rows = np.stack([np.ones(size, dtype=np.int64), (np.arange(size) < positive).astype(np.int64)], axis=1)
    estimate = sample(rows).estimate(mean, size)
    error = (0.4 * 0.6 / size) ** 0.5
    assert estimate.value == 0.4
    assert estimate.high is not None
    assert estimate.low is not None
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_resampling_distinct_rows_has_the_moments_of_resampling_rows_one_by_one() -> None:
    rows = np.random.default_rng(2).integers(0, 5, size=(120, 3))
    ours = resample(rows, np.random.default_rng(3), draws=4000)
    index = np.random.default_rng(4).integers(0, len(rows), size=(4000, len(rows)))
    naive = rows[index].sum(axis=1)
    assert ours.mean(axis=0) == pytest.approx(naive.mean(axis=0), rel=0.01)
    assert np.cov(ours.T) == pytest.approx(np.cov(naive.T), rel=0.1, abs=20)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(2).integers(0, 50, size=(60, 2))
    single_block = resample(rows, np.random.default_rng(3), draws=50)
    monkeypatch.setattr(intervals, "_BLOCK", 1)
    assert (resample(rows, np.random.default_rng(3), draws=50) == single_block).all()


def test_draws_in_which_the_metric_is_undefined_are_left_out() -> None:
    rows = np.array([[1, 1], [0, 0], [0, 0]])
    estimate = sample(rows).estimate(mean, 1)
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)


def test_an_undefined_metric_and_an_empty_sample_are_null() -> None:
    for rows in (np.array([[0, 0], [0, 0]]), np.zeros((0, 2), dtype=np.int64)):
        estimate = sample(rows).estimate(mean, 0)
        assert (estimate.value, estimate.low, estimate.high, estimate.n) == (None, None, None, 0)


def test_the_same_seed_gives_the_same_interval() -> None:
    rows = np.random.default_rng(2).integers(0, 2, size=(60, 2))
    assert sample(rows, 5).estimate(mean, 60) == sample(rows, 5).estimate(mean, 60)
    assert sample(rows, 5).estimate(mean, 60) != sample(rows, 6).estimate(mean, 60)


def test_percentiles() -> None:
    assert percentiles([value / 1000 for value in range(1001)]) == pytest.approx((0.025, 0.975))


def test_the_interval_of_a_mean_is_scipys() -> None:
    values = [0.1, 0.4, 0.35, 0.8, 0.2]
    low, high = intervals.interval_of_mean(values, np.random.default_rng(1))
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20000, random_state=2
    ).confidence_interval
    assert low == pytest.approx(expected.low, abs=0.02)
    assert high == pytest.approx(expected.high, abs=0.02)
