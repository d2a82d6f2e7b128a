"""Fixed-point solvers for batches. They see a function and a start, and know nothing of diffusion.

    find x_i with f(x_i) = x_i      for each sample i of a batch

`solve` is the one loop: it counts, checks that values are finite, keeps each sample's best iterate and asks
`stopping` when a sample is done; a solved sample leaves the calls of f. A method (`Picard`, `Anderson`,
`Adam`) says only what to try next. A strategy chooses methods for a series of similar problems. Not
converging is an outcome, never an exception.
"""

from invrecon.solve.loop import Function, Method, Solution, solve
from invrecon.solve.methods import Adam, Anderson, Picard
from invrecon.solve.stopping import ContractionRates, Criterion, Limit, Outcome, Result
from invrecon.solve.strategies import STRATEGIES, Strategy, make_strategy

__all__ = [
    "STRATEGIES",
    "Adam",
    "Anderson",
    "ContractionRates",
    "Criterion",
    "Function",
    "Limit",
    "Method",
    "Outcome",
    "Picard",
    "Result",
    "Solution",
    "Strategy",
    "make_strategy",
    "solve",
]
