"""One sample: what each method reaches, and when a solve ends."""

import pytest
import torch

from invrecon.solve import Adam, Anderson, ContractionRates, Criterion, Outcome, Picard, Result, solve


def affine(matrix: torch.Tensor, offset: torch.Tensor):
    return lambda x: x @ matrix.T + offset


@pytest.fixture
def problem():
    """x = M x + c in 20 unknowns, spectral radius 0.8, with its solution."""
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(20, 20, dtype=torch.float64, generator=generator)
    matrix *= 0.8 / torch.linalg.eigvals(matrix).abs().max()
    offset = torch.randn(20, dtype=torch.float64, generator=generator)
    return affine(matrix, offset), torch.linalg.solve(torch.eye(20, dtype=torch.float64) - matrix, offset)


def solve_one(
    f, x: torch.Tensor, method, criterion: Criterion, rates: ContractionRates | None = None
) -> tuple[torch.Tensor, Result]:
    """A batch of one sample, whose f takes no rows."""
    solution = solve(lambda x, rows: f(x), x[None], method, [criterion], [rates])
    return solution.x[0], solution.results[0]


def run(f, method, rates: ContractionRates | None = None, **changes) -> Result:
    """From zero, in 20 unknowns, to 1e-8 with patience."""
    criterion = Criterion(**{"rtol": 1e-8, "max_iterations": 500, "patience": 60} | changes)
    return solve_one(f, torch.zeros(20, dtype=torch.float64), method, criterion, rates)[1]


@pytest.mark.parametrize(
    ("method", "budget"),
    [(Picard(), 400), (Picard(0.7), 600), (Anderson(5), 100), (Anderson(5, 0.5), 200), (Adam(), 3000)],
)
def test_every_method_reaches_the_solution_of_a_linear_problem(method, budget, problem):
    f, expected = problem
    x, result = solve_one(
        f, torch.zeros(20, dtype=torch.float64), method, Criterion(1e-10, budget, patience=40)
    )
    assert result.outcome is Outcome.CONVERGED
    assert result.checked
    torch.testing.assert_close(x, expected, rtol=1e-7, atol=1e-7)


def test_anderson_takes_fewer_iterations_than_picard(problem):
    f, _ = problem
    assert run(f, Anderson(8)).iterations < run(f, Picard()).iterations / 2


def test_anderson_solves_an_expanding_problem_where_picard_diverges():
    f = affine(
        torch.diag(torch.tensor([-3.0, 0.5, 2.5], dtype=torch.float64)), torch.ones(3, dtype=torch.float64)
    )
    start = torch.zeros(3, dtype=torch.float64)
    x, picard = solve_one(f, start, Picard(), Criterion(1e-9, 60))
    _, anderson = solve_one(f, start, Anderson(5), Criterion(1e-9, 60))
    assert picard.outcome is Outcome.DIVERGED
    assert torch.equal(x, start)  # the best it has seen
    assert anderson.outcome is Outcome.CONVERGED


def test_residual_is_that_of_the_last_point_checked(problem):
    f, _ = problem
    start = torch.zeros(20, dtype=torch.float64)
    x, result = solve_one(f, start, Picard(), Criterion(1e-12, 7, scale=2.0))
    assert result.outcome is Outcome.MAX_ITERATIONS
    assert result.iterations == 7
    checked, _ = solve_one(f, start, Picard(), Criterion(1e-12, 6, scale=2.0))
    torch.testing.assert_close(x, f(checked))
    assert result.residual == pytest.approx((f(checked) - checked).norm().item() / 2)


def test_nan_ends_the_solve_with_the_last_good_point():
    def f(x: torch.Tensor) -> torch.Tensor:
        return x / 2 if x.abs().max() > 0.3 else x * float("nan")

    x, result = solve_one(f, torch.ones(4), Picard(), Criterion(1e-9, 50))
    assert result.outcome is Outcome.DIVERGED
    assert x.isfinite().all()


def rounded(f):
    """f as a network in half precision would compute it."""
    return lambda x: f(x.bfloat16().to(x.dtype)).bfloat16().to(x.dtype)


def test_a_residual_that_is_but_rounding_ends_the_solve(problem):
    f, expected = problem
    size = expected.norm().item()
    known = {"scale": size, "floor": torch.finfo(torch.bfloat16).eps}
    result, endless = (run(rounded(f), Anderson(8), **changes) for changes in (known, {"scale": size}))
    assert result.outcome is Outcome.ROUNDED
    assert result.outcome.solved
    assert result.iterations < 20 < endless.iterations
    assert result.residual < torch.finfo(torch.bfloat16).eps
    assert not endless.outcome.solved


def test_what_rounding_left_in_one_solve_is_known_in_the_next(problem):
    f, expected = problem
    rates = ContractionRates()
    limits = {"scale": expected.norm().item(), "floor": torch.finfo(torch.bfloat16).eps}
    first = run(rounded(f), Anderson(8), rates, **limits)
    level = rates.rounding_level
    assert first.residual == pytest.approx(level * torch.finfo(torch.bfloat16).eps)
    again = run(rounded(f), Anderson(8), rates, **limits)
    assert again.outcome is Outcome.ROUNDED
    assert again.iterations < first.iterations
    assert 0 < rates.rounding_level < level  # and a little less is believed of it each time


def test_a_floor_does_not_end_what_still_falls():
    assert run(lambda x: 0.5 * x + 1, Picard(), floor=0.1).outcome is Outcome.CONVERGED


def test_carried_pairs_save_evaluations_on_a_series_of_similar_problems(problem):
    f, _ = problem
    carried = Anderson(25)
    for shift in (0.0, 0.1, 0.2):
        fresh_run = run(lambda x, d=shift: f(x) + d, Anderson(25))
        carried_run = run(lambda x, d=shift: f(x) + d, carried)
    assert carried_run.iterations < fresh_run.iterations / 2


def test_a_slow_solve_may_stop_within_the_relaxed_tolerance_and_a_fast_one_may_not():
    def residual(rate: float, max_relaxation: float) -> float:
        criterion = Criterion(1e-3, 500, max_relaxation=max_relaxation)
        return solve_one(lambda x: rate * x, torch.ones(4), Picard(), criterion)[1].residual

    assert residual(0.9, 1.0) < 1e-3 < residual(0.9, 3.0) < 3e-3
    assert residual(0.99, 3.0) < 3e-3  # ten times, but for the limit
    assert residual(0.2, 3.0) < 1e-3


def test_the_last_evaluation_is_not_wasted():
    x, result = solve_one(lambda x: x / 2, torch.ones(4), Picard(), Criterion(1e-9, 3))
    assert not result.checked
    torch.testing.assert_close(x, torch.full((4,), 1 / 8))


def test_a_tolerance_may_follow_the_evaluations_taken():
    criterion = Criterion(lambda taken: 1.0 if taken == 4 else 0.0, 9)
    _, result = solve_one(lambda x: x / 2, torch.ones(4), Picard(), criterion)
    assert (result.iterations, result.outcome) == (4, Outcome.CONVERGED)


def test_known_rates_save_the_evaluation_that_would_confirm_until_one_is_checked_again():
    """Residuals 1/2, 1/4, 1/8, 1/16: the fourth evaluation sees one below 0.1, and three are enough to expect
    it.
    """
    rates, ends = ContractionRates(caution=2), []
    for _ in range(4):
        x, result = solve_one(lambda x: x / 2, torch.ones(1), Picard(), Criterion(0.1, 9), rates)
        ends.append((result.iterations, result.checked))
        assert result.residual == x.item() / 2 == 1 / 16
    assert ends == [(4, True), (3, False), (4, True), (3, False)]
