import pytest
import torch

from invrecon.solve import Adam, Anderson, Foresight, Outcome, Picard, solve


def affine(matrix: torch.Tensor, offset: torch.Tensor):
    return lambda x: matrix @ x + offset


@pytest.fixture
def problem():
    """x = M x + c in 20 unknowns, spectral radius 0.8, with its solution."""
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(20, 20, dtype=torch.float64, generator=generator)
    matrix *= 0.8 / torch.linalg.eigvals(matrix).abs().max()
    offset = torch.randn(20, dtype=torch.float64, generator=generator)
    return affine(matrix, offset), torch.linalg.solve(torch.eye(20, dtype=torch.float64) - matrix, offset)


@pytest.mark.parametrize(
    ("method", "budget"),
    [(Picard(), 400), (Picard(0.7), 600), (Anderson(5), 100), (Anderson(5, 0.5), 200), (Adam(), 3000)],
)
def test_every_method_reaches_the_solution_of_a_linear_problem(method, budget, problem):
    fn, solution = problem
    found = solve(
        fn,
        torch.zeros(20, dtype=torch.float64),
        method,
        rtol=1e-10,
        scale=1.0,
        max_iterations=budget,
        patience=40,
    )
    assert found.outcome is Outcome.CONVERGED
    assert found.checked
    torch.testing.assert_close(found.x, solution, rtol=1e-7, atol=1e-7)


def run(fn, method, **options):
    options = {"rtol": 1e-8, "scale": 1.0, "max_iterations": 500, "patience": 60} | options
    return solve(fn, torch.zeros(20, dtype=torch.float64), method, **options)


def test_anderson_takes_fewer_iterations_than_picard(problem):
    fn, _ = problem
    assert run(fn, Anderson(8)).iterations < run(fn, Picard()).iterations / 2


def test_anderson_solves_an_expanding_problem_where_picard_diverges():
    fn = affine(
        torch.diag(torch.tensor([-3.0, 0.5, 2.5], dtype=torch.float64)), torch.ones(3, dtype=torch.float64)
    )
    start = torch.zeros(3, dtype=torch.float64)
    picard = solve(fn, start, Picard(), rtol=1e-9, scale=1.0, max_iterations=60)
    anderson = solve(fn, start, Anderson(5), rtol=1e-9, scale=1.0, max_iterations=60)
    assert picard.outcome is Outcome.DIVERGED
    assert torch.equal(picard.x, start)  # the best it has seen
    assert anderson.outcome is Outcome.CONVERGED


def test_residual_is_that_of_the_last_point_checked(problem):
    fn, _ = problem
    found = solve(fn, torch.zeros(20, dtype=torch.float64), Picard(), rtol=1e-12, scale=2.0, max_iterations=7)
    assert found.outcome is Outcome.MAX_ITERATIONS
    assert found.iterations == 7
    checked = solve(
        fn, torch.zeros(20, dtype=torch.float64), Picard(), rtol=1e-12, scale=2.0, max_iterations=6
    ).x
    torch.testing.assert_close(found.x, fn(checked))
    assert found.residual == pytest.approx((fn(checked) - checked).norm().item() / 2)


def test_nan_ends_the_solve_with_the_last_good_point():
    def fn(x: torch.Tensor) -> torch.Tensor:
        return x / 2 if x.abs().max() > 0.3 else x * float("nan")

    found = solve(fn, torch.ones(4), Picard(), rtol=1e-9, scale=1.0, max_iterations=50)
    assert found.outcome is Outcome.DIVERGED
    assert found.x.isfinite().all()


def rounded(fn):
    """f as a network in half precision would compute it."""
    return lambda x: fn(x.bfloat16().to(x.dtype)).bfloat16().to(x.dtype)


def test_a_residual_that_is_but_rounding_ends_the_solve(problem):
    fn, solution = problem
    size = solution.norm().item()
    known = {"scale": size, "floor": torch.finfo(torch.bfloat16).eps}
    found, endless = (run(rounded(fn), Anderson(8), **options) for options in (known, {"scale": size}))
    assert found.outcome is Outcome.ROUNDED
    assert found.outcome.solved
    assert found.iterations < 20 < endless.iterations
    assert found.residual < torch.finfo(torch.bfloat16).eps
    assert not endless.outcome.solved


def test_what_rounding_left_in_one_solve_is_known_in_the_next(problem):
    fn, solution = problem
    foresight = Foresight()
    options = {
        "scale": solution.norm().item(),
        "floor": torch.finfo(torch.bfloat16).eps,
        "foresight": foresight,
    }
    first = run(rounded(fn), Anderson(8), **options)
    grain = foresight.grain
    assert first.residual == pytest.approx(grain * torch.finfo(torch.bfloat16).eps)
    again = run(rounded(fn), Anderson(8), **options)
    assert again.outcome is Outcome.ROUNDED
    assert again.iterations < first.iterations
    assert 0 < foresight.grain < grain  # and a little less is believed of it each time


def test_a_floor_does_not_end_what_still_falls():
    assert run(lambda x: 0.5 * x + 1, Picard(), floor=0.1).outcome is Outcome.CONVERGED


def test_carried_pairs_save_evaluations_on_a_series_of_similar_problems(problem):
    fn, _ = problem
    carried = Anderson(25)
    for shift in (0.0, 0.1, 0.2):
        fresh_run = run(lambda x, d=shift: fn(x) + d, Anderson(25))
        carried_run = run(lambda x, d=shift: fn(x) + d, carried)
    assert carried_run.iterations < fresh_run.iterations / 2


def test_a_slow_solve_may_stop_within_the_slack_and_a_fast_one_may_not():
    def contracting(rate: float):
        return lambda x: rate * x

    def residual(rate: float, slack: float) -> float:
        return solve(
            contracting(rate), torch.ones(4), Picard(), rtol=1e-3, scale=1.0, max_iterations=500, slack=slack
        ).residual

    assert residual(0.9, 1.0) < 1e-3 < residual(0.9, 3.0) < 3e-3
    assert residual(0.99, 3.0) < 3e-3  # ten times, but for the slack
    assert residual(0.2, 3.0) < 1e-3


def test_the_last_evaluation_is_not_wasted():
    found = solve(lambda x: x / 2, torch.ones(4), Picard(), rtol=1e-9, scale=1.0, max_iterations=3)
    assert not found.checked
    torch.testing.assert_close(found.x, torch.full((4,), 1 / 8))


def test_a_tolerance_may_follow_the_evaluations_taken():
    found = solve(
        lambda x: x / 2,
        torch.ones(4),
        Picard(),
        rtol=lambda taken: 1.0 if taken == 4 else 0.0,
        scale=1.0,
        max_iterations=9,
    )
    assert (found.iterations, found.outcome) == (4, Outcome.CONVERGED)
