"""Path in, pictures and seed out: the order of work behind every command."""

from invrecon.pipeline.inversion import Inversion, OnProgress, invert
from invrecon.pipeline.reconstruction import Reconstruction, boost, reconstruct
from invrecon.pipeline.verification import Verification, verify

__all__ = ["Inversion", "OnProgress", "Reconstruction", "Verification", "boost", "invert", "reconstruct", "verify"]
