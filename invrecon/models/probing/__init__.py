"""A user's own diffusers pipeline as the network: one call of it is one evaluation of the guided prediction
eps(z, t)."""

from invrecon.models.probing.denoiser import PipelineDenoiser
from invrecon.models.probing.model import PipelineModel

__all__ = ["PipelineDenoiser", "PipelineModel"]
