"""How fast inversion is on this machine, beside DDIM inversion and the network's evaluations alone."""

from invrecon.audit.speed.benchmark import make_benchmark
from invrecon.audit.speed.measurement import Speed, measure

__all__ = ["Speed", "make_benchmark", "measure"]
