"""Networks of well-known shapes with random weights: they draw nothing, but take the time that trained ones
take.
"""

from dataclasses import replace
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from invrecon.errors import UsageError
from invrecon.models.load import pick_device, pick_dtype, ready
from invrecon.models.locate import locate
from invrecon.models.model import Model
from invrecon.models.quiet import quiet

SHAPES: dict[str, dict[str, Any]] = {  # what isn't diffusers' default
    "sd15": {"sample_size": 64, "cross_attention_dim": 768},
    "sd21": {
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
}
TOKENS = 77  # that the text encoders of Stable Diffusion 1 and 2 give


def random_model(
    shape: str, device: str = "auto", dtype: str = "float32", *, compiled: bool = False
) -> Model:
    """A `Model` whose U-Net has the shape that is named and random weights, always the same; nothing is
    downloaded.

    Autoencoder and text encoder are tiny, with outputs of the right shape. Random networks are easier or
    harder to invert than trained ones: what carries over is the time of an evaluation and what is spent
    beside it, not how many there are.

    Args:
        shape: a key of `SHAPES`.
        device, dtype, compiled: as in `load_model`.

    Raises:
        UsageError: there is no such shape.
        ModelError: the device isn't available.
    """
    if shape not in SHAPES:
        raise UsageError(f"no shape {shape!r}: there are {', '.join(SHAPES)}")
    checkpoint, target, config = locate("mini"), pick_device(device), SHAPES[shape]
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = _pipeline(
            CLIPTokenizer.from_pretrained(checkpoint.folder / "tokenizer", model_max_length=TOKENS), config
        )
        pipeline.to(getattr(torch, pick_dtype(dtype, target)))
        named = replace(checkpoint, name=f"{shape}, random weights")
        return ready(named, pipeline, target, compiled=compiled)


def _pipeline(tokenizer: CLIPTokenizer, config: dict[str, Any]) -> StableDiffusionPipeline:
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=config["cross_attention_dim"],
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    autoencoder = AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    return StableDiffusionPipeline(
        vae=autoencoder,
        unet=UNet2DConditionModel(**config),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            clip_sample=False,
            set_alpha_to_one=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
