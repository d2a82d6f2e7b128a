"""What a .safetensors file says of itself: what it is, which parts it holds, what its network predicts."""

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from invrecon.errors import ModelError
from invrecon.models.files import check_fetched

NETWORK = "model.diffusion_model."
PREFIXES = {  # of a part's weights, in the files of Stable Diffusion's authors and of ComfyUI
    "unet": (NETWORK,),
    "transformer": (NETWORK,),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": (
        "cond_stage_model.transformer.",
        "cond_stage_model.model.",
        "conditioner.embedders.0.transformer.",
        "text_encoders.clip_l.transformer.",
    ),
    "text_encoder_2": (
        "conditioner.embedders.1.model.",
        "text_encoders.clip_g.transformer.",
        "text_encoders.t5xxl.transformer.",
    ),
    "text_encoder_3": ("text_encoders.t5xxl.transformer.",),
}
BARE = {  # a name that tells a part alone in its file, without prefix; the second is diffusers' own
    "unet": ("input_blocks.0.0.weight", "down_blocks.0.resnets.0.time_emb_proj.weight"),
    "transformer": (
        "double_blocks.0.img_attn.qkv.weight",
        "joint_blocks.0.x_block.attn.qkv.weight",
        "transformer_blocks.0.attn.to_q.weight",
    ),
    "vae": ("encoder.conv_in.weight", "decoder.conv_in.weight", "encoder.layers.0.weight"),
    "text_encoder": ("text_model.embeddings.token_embedding.weight",),
}
LORA = r"lora[._](up|down|A|B|linear_layer)\b|\.lora\.|hada_w1|lokr_w1"
OTHER_THINGS = (  # (pattern of a weight's name, what has such, what to do)
    (
        LORA,
        "a LoRA, which changes a checkpoint",
        "name that checkpoint with --model, and this file with --lora",
    ),
    (
        r"^emb_params$|^string_to_param|^clip_[lg]$",
        "a learnt word (textual inversion)",
        "name a checkpoint with --model, and this file with --embedding",
    ),
    (
        r"^control_model\.|^input_hint_block|^controlnet_",
        "a ControlNet",
        "load it into a pipeline in diffusers, and give that to Model.from_pipeline",
    ),
    (r"^ip_adapter\.|^image_proj\.", "an IP-Adapter", "name the checkpoint that it was made for"),
)
TITLES = {  # of diffusers' names for kinds of single files
    "sd3": "Stable Diffusion 3",
    "sd35_medium": "Stable Diffusion 3.5",
    "sd35_large": "Stable Diffusion 3.5",
    "flux-dev": "Flux",
    "flux-schnell": "Flux",
}
BY_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "the SDXL refiner"}
"""Kind of a U-Net by the width of the text embeddings that it attends to."""
BY_CHANNELS = {
    5: "a depth-to-image checkpoint",
    7: "an upscaler",
    8: "an instruct-pix2pix checkpoint",
    9: "an inpainting checkpoint",
}
EDM, UNCLIP = "a checkpoint of EDM's noise schedule", "an unCLIP checkpoint"
NEVER = (*BY_CHANNELS.values(), EDM, UNCLIP, BY_CONTEXT[1280])
ODD_TYPES = ("I8", "U8", "I16", "U16", "I32", "U32", "C64", "BOOL", "F4", "F6_E2M3", "F6_E3M2")
SCALED = r"scaled_fp8$|\.scale_weight$|\.weight_scale$|\.absmax$|\.quant_map$|\.quant_state"
MODELSPEC = {"epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}


@dataclass(frozen=True)
class SingleFile:
    """The header of a .safetensors file.

    Args:
        path: of the file.
        shapes, types: of the weights, by their names.
        metadata: text that was saved with them.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    types: dict[str, str]
    metadata: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "SingleFile":
        """Raises ModelError where it can't be read."""
        check_fetched(path)
        try:
            with safe_open(path, "pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                shapes = {name: tuple(each.get_shape()) for name, each in slices.items()}
                types = {name: str(each.get_dtype()) for name, each in slices.items()}
                return cls(path, shapes, types, file.metadata() or {})
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} is not a whole .safetensors file ({error}): fetch it again") from error

    def prefix(self, part: str) -> str | None:
        """Of the names of a part's weights; "" where the file holds that part alone, None where it doesn't
        hold it."""
        if any(name in self.shapes for name in BARE.get(part, ())):
            return ""
        return next(
            (p for p in PREFIXES.get(part, ()) if any(name.startswith(p) for name in self.shapes)), None
        )

    def holds(self, part: str) -> bool:
        return self.prefix(part) is not None

    def weights(self, part: str) -> dict[str, Tensor]:
        """The weights of a part: a U-Net's or transformer's with `NETWORK` before their names, others
        without prefix."""
        prefix = self.prefix(part) or ""
        own = (
            NETWORK
            if prefix == NETWORK or (BARE.get(part, ("",))[0] in self.shapes and part == "unet")
            else ""
        )
        with safe_open(self.path, "pt") as file:
            return {
                own + name.removeprefix(prefix): file.get_tensor(name)
                for name in self.shapes
                if name.startswith(prefix)
            }

    def check_types(self) -> None:
        """Raises ModelError where weights are no plain numbers: quantised, with scales of their own, or
        complex."""
        odd = (name for name in self.shapes if self.types[name] in ODD_TYPES or re.search(SCALED, name))
        if name := next(odd, None):
            raise ModelError(
                f"{self.path} has weights that are quantised or no plain numbers ({name}, "
                f"{self.types[name]}): "
                "name one of 16 or 32 bits"
            )

    def check(self) -> None:
        """Raises ModelError where it holds no network; the text says what it is and what to do."""
        if "invrecon" in self.metadata:
            raise ModelError(f"{self.path} is a seed file: give it in place of a photo, and name its model")
        steers = any(name.startswith("controlnet_cond_embedding.") for name in self.shapes)
        network = not steers and (self.holds("unet") or self.holds("transformer"))
        for pattern, what, cure in OTHER_THINGS:
            if not network and any(re.search(pattern, name) for name in self.shapes):
                raise ModelError(f"{self.path} is {what}, not a checkpoint: {cure}")
        self.check_types()
        lora = re.compile(LORA)
        if network and (name := next(filter(lora.search, self.shapes), None)):
            raise ModelError(
                f"{self.path} has a LoRA beside its weights ({name}), which would be left out: "
                "merge it, or take it out"
            )
        if network and self.kind in NEVER:
            raise ModelError(
                f"{self.path} is {self.kind}, which can't be inverted: name one that draws from text alone"
            )
        if network:
            return
        if self.holds("vae"):
            raise ModelError(f"{self.path} is an autoencoder alone: name the checkpoint that it goes with")
        if any(self.holds(part) for part in PREFIXES):
            raise ModelError(f"{self.path} is a text encoder alone: name a checkpoint that has one")
        if len(self.shapes) == 1:
            _, what, cure = OTHER_THINGS[1]
            raise ModelError(f"{self.path} is perhaps {what}, not a checkpoint: {cure}")
        first = next(iter(self.shapes), "it is empty")
        raise ModelError(
            f"{self.path} is not a checkpoint that is known: none of its weights' names is ({first})"
        )

    @property
    def kind(self) -> str:
        """ "sd1", "sd2" or "sdxl" where the configuration of these fits; else what it is, for people."""
        names = {name.removeprefix(NETWORK): shape for name, shape in self.shapes.items()}
        attention = (shape for name, shape in names.items() if name.endswith("attn2.to_k.weight"))
        first, context = names.get("input_blocks.0.0.weight"), next(attention, (0,))[-1]
        if first is None or len(first) != 4:
            return self._foreign_kind()
        if "conv_in.weight" in names:
            return "a U-Net under diffusers' own names"
        if first[1] != 4:
            return BY_CHANNELS.get(first[1], f"a U-Net of {first[1]} input channels")
        if {"edm_mean", "edm_vpred.sigma_max"} & self.shapes.keys():
            return EDM
        if context == 1024 and "label_emb.0.0.weight" in names:
            return UNCLIP
        return BY_CONTEXT.get(context, f"a U-Net for text embeddings of width {context}")

    def _foreign_kind(self) -> str:
        from invrecon.models.quiet import quiet

        with quiet():
            from diffusers.loaders.single_file_utils import infer_diffusers_model_type
        try:
            named = infer_diffusers_model_type({k: SimpleNamespace(shape=v) for k, v in self.shapes.items()})
        except Exception:  # it looks up names that a strange file may lack
            named = "v1"
        return "a network of unknown kind" if named == "v1" else TITLES.get(named, named)

    @property
    def prediction(self) -> str | None:
        """What the file says that its network predicts: "epsilon" or "v_prediction"; None where it says
        nothing.

        Raises:
            ModelError: it says two things, or what can't be inverted.
        """
        said = {"v_prediction"} if "v_pred" in self.shapes else set()
        if spec := self.metadata.get("modelspec.prediction_type"):
            if spec not in MODELSPEC:
                raise ModelError(f"{self.path} says that it predicts {spec!r:.40}, which can't be inverted")
            said.add(MODELSPEC[spec])
        if len(said) > 1:
            raise ModelError(
                f"{self.path} says that it predicts {' and '.join(sorted(said))}: convert it to a "
                "diffusers folder, "
                "whose scheduler_config.json says which"
            )
        return next(iter(said), None)

    def corrected(self, scheduler: Any, guess: bool) -> Any:
        """A scheduler of diffusers with the facts that the file tells, which belong to its weights:
        prediction type, and zero
        terminal SNR (arXiv:2305.08891), which is sampled at trailing timesteps.

        Args:
            guess: whether Stable Diffusion 2 that tells nothing is taken for v-prediction where ComfyUI does
                so, by the
                spread of one of its weights.
        """
        from diffusers import DDIMScheduler

        from invrecon.models.samplers import converted

        facts: dict[str, Any] = {}
        if prediction := self.prediction or (guess and self._guessed_prediction()):
            facts["prediction_type"] = prediction
        if "ztsnr" in self.shapes:
            facts |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        if "beta_start" not in scheduler.config:
            return scheduler  # flow matching has neither
        if not facts:
            return scheduler
        kind = type(scheduler)
        knows = facts.keys() <= inspect.signature(kind.__init__).parameters.keys()
        return converted(kind if knows else DDIMScheduler, scheduler, **facts)

    def _guessed_prediction(self) -> str | None:
        name = f"{NETWORK}output_blocks.11.1.transformer_blocks.0.norm1.bias"
        if self.kind != "sd2" or name not in self.shapes:
            return None
        with safe_open(self.path, "pt") as file:
            spread = torch.std(file.get_tensor(name).float(), unbiased=False).item()
        return "v_prediction" if spread > 0.09 else "epsilon"
