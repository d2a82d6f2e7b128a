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

SAME_NETWORK = {
    "LatentConsistencyModelPipeline": "StableDiffusionPipeline",
    "LatentConsistencyModelImg2ImgPipeline": "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline": "StableDiffusionPipeline",
    "StableDiffusionInpaintPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLImg2ImgPipeline": "StableDiffusionXLPipeline",
    "StableDiffusionXLInpaintPipeline": "StableDiffusionXLPipeline",
    "StableDiffusion3Img2ImgPipeline": "StableDiffusion3Pipeline",
    "StableDiffusion3InpaintPipeline": "StableDiffusion3Pipeline",
    "FluxImg2ImgPipeline": "FluxPipeline",
    "FluxInpaintPipeline": "FluxPipeline",
}
"""Pipeline classes that a checkpoint may be saved as, with the one that draws from text with the same
network. A network that takes more than the latents, as those trained to fill in a part, is refused by its
channels."""


def family_of(kind: str) -> Family | None:
    """The family of a pipeline class, by its name; None where it is unknown."""
    return FAMILIES.get(SAME_NETWORK.get(kind, kind))


__all__ = ["FAMILIES", "SAME_NETWORK", "Family", "family_of"]
