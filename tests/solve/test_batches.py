"""A batch gives each sample what it would get alone: `solve`, and the strategies that choose its methods."""

import math

import pytest
import torch
from torch import Tensor

from invrecon.solve import (
    STRATEGIES,
    Adam,
    Anderson,
    ContractionRates,
    Criterion,
    Outcome,
    Picard,
    make_strategy,
    solve,
)

METHODS = {
    "picard": Picard,
    "damped": lambda: Picard(0.7),
    "anderson": lambda: Anderson(4),
    "adam": Adam,
}
SLOPES = torch.tensor(
    [0.1, -0.6, 0.8, 0.3], dtype=torch.float64
)  # of f, by sample: how slowly each converges


class Recorded:
    """f(x) = s_i x + c with one slope for each sample, slightly curved; notes which samples each call had."""

    def __init__(self, slopes: Tensor = SLOPES):
        self.slopes, self.calls = slopes, []

    def __call__(self, x: Tensor, rows: Tensor) -> Tensor:
        self.calls.append(rows.tolist())
        assert len(x) == len(rows)
        slopes = self.slopes[rows].view(-1, 1, 1)
        return slopes * x + 1 + 0.05 * torch.sin(2 * x.roll(1, -1))

    def alone(self, sample: int) -> "Recorded":
        return Recorded(self.slopes[sample : sample + 1])


@pytest.fixture
def start() -> Tensor:
    return torch.randn(4, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_is_solved_as_its_samples_alone(name, start):
    criteria = [Criterion(rtol, 400, patience=40) for rtol in (1e-10, 1e-6, 1e-8, 1e-4)]
    batch = solve(Recorded(), start, METHODS[name](), criteria)
    for sample, result in enumerate(batch.results):
        alone = solve(
            Recorded().alone(sample), start[sample : sample + 1], METHODS[name](), [criteria[sample]]
        )
        assert result.outcome is alone.results[0].outcome is Outcome.CONVERGED
        assert result.iterations == alone.results[0].iterations
        assert result.residual == pytest.approx(alone.results[0].residual, rel=1e-6)
        torch.testing.assert_close(batch.x[sample : sample + 1], alone.x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["picard", "damped", "anderson"])
def test_a_solved_sample_leaves_the_calls_of_f(name, start):
    f = Recorded()
    results = solve(f, start, METHODS[name](), [Criterion(1e-8, 400)] * 4).results
    needs = [result.iterations for result in results]
    assert len(set(needs)) == 4
    assert f.calls == [[sample for sample in range(4) if needs[sample] > call] for call in range(max(needs))]


def test_gradients_are_taken_sample_by_sample(start):
    f = Recorded()
    results = solve(f, start, Adam(), [Criterion(1e-6, 400, patience=40)] * 4).results
    assert all(len(rows) == 1 for rows in f.calls)
    assert [f.calls.count([sample]) for sample in range(4)] == [result.iterations for result in results]


def test_each_sample_has_its_own_criterion(start):
    same = start[:1].expand(4, -1, -1).clone()
    criteria = [
        Criterion(1e-3, 400),
        Criterion(1e-9, 400),
        Criterion(1e-9, 3),
        Criterion(1e-9, 400, scale=1e5),
    ]
    solution = solve(Recorded(torch.full((4,), 0.5)), same, Picard(), criteria)
    few, many, cut, large = solution.results
    assert few.residual < 1e-3
    assert many.residual < 1e-9
    assert few.iterations < large.iterations < many.iterations
    assert (cut.iterations, cut.outcome, cut.checked) == (3, Outcome.MAX_ITERATIONS, False)
    assert {few.outcome, many.outcome, large.outcome} == {Outcome.CONVERGED}


def test_each_sample_has_its_own_rates(start):
    """In the second problem of a series, samples with rates are spared the evaluation that would confirm."""
    method, rates = Picard(), [ContractionRates(), None, ContractionRates(), None]
    first, second = (
        solve(Recorded(), start, method, [Criterion(1e-8, 400)] * 4, rates).results for _ in range(2)
    )
    spared = [before.iterations - after.iterations for before, after in zip(first, second, strict=True)]
    assert [result.checked for result in second] == [False, True, False, True]
    assert spared[1] == spared[3] == 0
    assert min(spared[0], spared[2]) >= 1


@pytest.mark.parametrize("harm", [math.nan, math.inf])
@pytest.mark.parametrize("name", METHODS)
def test_a_sample_that_is_not_finite_leaves_the_others_untouched(name, harm, start):
    f, criteria = Recorded(), [Criterion(1e-8, 400, patience=40)] * 4

    def harmed(x: Tensor, rows: Tensor) -> Tensor:
        return torch.where(rows == 1, harm, 1.0).view(-1, 1, 1) * f(x, rows)

    whole, broken = (solve(each, start, METHODS[name](), criteria) for each in (f, harmed))
    assert broken.results[1].outcome is Outcome.DIVERGED
    assert not broken.results[1].checked
    assert torch.equal(broken.x[1], start[1])
    for sample in (0, 2, 3):
        assert broken.results[sample] == whole.results[sample]
        assert torch.equal(broken.x[sample], whole.x[sample])


@pytest.mark.parametrize("name", ["picard", "anderson"])
def test_numbers_are_read_once_an_iteration_for_all_samples(name, start, monkeypatch):
    reads, tolist = [], Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: (reads.append(tensor.shape), tolist(tensor))[1])
    monkeypatch.setattr(Tensor, "item", lambda tensor: pytest.fail("read a number by itself"))
    monkeypatch.setattr(Tensor, "__bool__", lambda tensor: pytest.fail("read a truth by itself"))
    calls = []

    def f(x: Tensor, rows: Tensor) -> Tensor:
        calls.append(len(rows))
        return 0.5 * x + 1

    solve(f, start, METHODS[name](), [Criterion(1e-8, 400)] * 4)
    assert reads == [(2, rows) for rows in calls]


def test_the_start_is_left_as_it_was(start):
    before = start.clone()
    solve(Recorded(), start, Anderson(), [Criterion(1e-8, 400)] * 4)
    assert torch.equal(start, before)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_solves_a_series_as_it_would_for_each_sample_alone(name, start):
    strategy, alone = make_strategy(name, 4), [make_strategy(name) for _ in range(4)]
    criteria = [Criterion(1e-8, 400, patience=40)] * 4
    for shift in (0.0, 0.1, 0.2):
        batch = strategy(Recorded(), start + shift, criteria, 1.0 + shift)
        for sample, result in enumerate(batch.results):
            rows = slice(sample, sample + 1)
            one = alone[sample](Recorded().alone(sample), start[rows] + shift, criteria[rows], 1.0 + shift)
            assert result.iterations == one.results[0].iterations
            assert result.method == one.results[0].method
            assert result.outcome is Outcome.CONVERGED
            torch.testing.assert_close(batch.x[rows], one.x, rtol=1e-10, atol=1e-10)


def test_fallbacks_take_the_samples_that_are_unsolved():
    """The f of the last two samples jumps about, so that all methods are tried on them."""
    calls: list[list[int]] = []

    def f(x: Tensor, rows: Tensor) -> Tensor:
        calls.append(rows.tolist())
        wild = (rows >= 2).view(-1, 1)
        return torch.where(wild, 3 * torch.sin(1e5 * x) - 4, 0.5 * x + 1)

    strategy = make_strategy("auto", 4)
    start = torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    solution = strategy(f, start, [Criterion(1e-9, 40)] * 4, 1.0)
    assert [result.outcome.solved for result in solution.results] == [True, True, False, False]
    assert [result.method for result in solution.results[:2]] == ["anderson"] * 2
    together = calls.index([2, 3])
    assert all(set(rows) <= {2, 3} for rows in calls[together:])
    for sample, result in enumerate(solution.results):
        assert sum(sample in rows for rows in calls) == result.iterations <= 40
    assert solution.x.isfinite().all()


def test_what_led_one_sample_astray_is_forgotten_for_it_alone():
    """The first sample's f is steep: Anderson's method fails, and its damped form does not."""

    def f(x: Tensor, rows: Tensor) -> Tensor:
        return torch.where((rows == 0).view(-1, 1), -6 * torch.tanh(2 * x), 0.2 * x)

    strategy = make_strategy("auto", 2)
    start = torch.tensor([[0.7, -0.4, 0.9], [1.0, 1.0, 1.0]], dtype=torch.float64)
    solution = strategy(f, start, [Criterion(1e-10, 300)] * 2, 1.0)
    assert [result.method for result in solution.results] == ["damped", "anderson"]
    assert [result.outcome for result in solution.results] == [Outcome.CONVERGED] * 2
    torch.testing.assert_close(solution.x, torch.zeros_like(start), rtol=0, atol=1e-9)
    assert [bool(rates.rates) for rates in strategy.rates] == [False, True]


def test_a_tolerance_that_follows_evaluations_counts_those_of_earlier_methods():
    criterion = Criterion(lambda taken: 1.0 * (taken == 12), 20, floor=lambda taken: float(taken))
    left = criterion.after(5)
    assert left.max_iterations == 15
    assert [left.rtol(taken) for taken in (6, 7, 8)] == [0.0, 1.0, 0.0]
    assert left.floor(1) == 6.0
    assert Criterion(0.5, 20, scale=3.0).after(5) == Criterion(0.5, 15, scale=3.0)


def test_carried_pairs_are_rescaled_by_the_gain(start):
    """f_g(x) = g M x: pairs of one problem, rescaled, are exact for the next, which then takes two
    evaluations.
    """
    strategy = make_strategy("anderson", 1)
    matrix = torch.diag(torch.tensor([0.5, -0.7, 0.2], dtype=torch.float64))
    x = torch.ones(1, 3, dtype=torch.float64)
    taken = []
    for gain in (1.0, 1.3, 0.6):
        solution = strategy(lambda x, rows, g=gain: g * x @ matrix + 1, x, [Criterion(1e-9, 50)], gain)
        taken.append(solution.results[0].iterations)
        exact = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - gain * matrix, torch.ones(3).double())
        torch.testing.assert_close(solution.x[0], exact, rtol=1e-7, atol=1e-7)
    assert taken[0] > 3
    assert max(taken[1:]) <= 2
