"""What tells one family of checkpoints from another, behind one interface."""

from invrecon.models.families.family import Family
from invrecon.models.families.flux import Flux
from invrecon.models.families.stable_diffusion import StableDiffusion
from invrecon.models.families.stable_diffusion_3 import StableDiffusion3
from invrecon.models.families.stable_diffusion_xl import StableDiffusionXL

FAMILIES: dict[str, Family] = {
    family.pipeline.__name__: family
    for family in (StableDiffusion(), StableDiffusionXL(), StableDiffusion3(), Flux())
}
"""By the name of their pipeline class, which is what model_index.json tells."""

__all__ = ["FAMILIES", "Family"]
