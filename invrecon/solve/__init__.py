"""Fixed-point solvers. They see a function and a start, and know nothing of diffusion.

    find x with f(x) = x

`solving` is the one loop: it counts, checks that all is finite, keeps the best iterate and decides when to stop.
A method says only what to try next. Not converging is an outcome, never an exception.

Solves are talks: each knows one problem only, and many run side by side (see `talk`). `solve` runs one by itself.
"""

from invrecon.solve.driver import Foresight, Function, Limit, Method, Outcome, Solution, solve, solving
from invrecon.solve.methods import Adam, Anderson, Picard
from invrecon.solve.strategies import STRATEGIES, Strategy, make_strategy
from invrecon.solve.talk import Answer, Read, Talk, converse, read

__all__ = [
    "STRATEGIES",
    "Adam",
    "Anderson",
    "Answer",
    "Foresight",
    "Function",
    "Limit",
    "Method",
    "Outcome",
    "Picard",
    "Read",
    "Solution",
    "Strategy",
    "Talk",
    "converse",
    "make_strategy",
    "read",
    "solve",
    "solving",
]
