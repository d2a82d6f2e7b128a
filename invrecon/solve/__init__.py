"""Fixed-point solvers. They see a function and a start, and know nothing of diffusion.

    find x with f(x) = x

`solve` is the one loop: it counts, checks that all is finite, keeps the best iterate and decides when to stop.
A method says only what to try next. Not converging is an outcome, never an exception.
"""

from invrecon.solve.driver import Foresight, Function, Method, Outcome, Solution, Tolerance, solve
from invrecon.solve.methods import Adam, Anderson, Picard
from invrecon.solve.strategies import STRATEGIES, Strategy, make_strategy

__all__ = [
    "STRATEGIES",
    "Adam",
    "Anderson",
    "Foresight",
    "Function",
    "Method",
    "Outcome",
    "Picard",
    "Solution",
    "Strategy",
    "Tolerance",
    "make_strategy",
    "solve",
]
