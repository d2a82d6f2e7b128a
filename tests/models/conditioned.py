"""Pipelines whose calls hold more than prompts: images, masks, perturbed attention, guiders; and rarer
families."""

import diffusers
import torch

from tests import checkpoints
from tests.models.pipelines import embeds, flux2_autoencoder, kl, qwen_autoencoder

WIDTH = 32  # of the U-Nets' text embeddings


def _stable_diffusion(kind, **parts):
    scheduler = diffusers.DDIMScheduler(**checkpoints.BETAS, clip_sample=False, set_alpha_to_one=False)
    none = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    parts = {"unet": checkpoints.unet(), "vae": kl(), "scheduler": scheduler} | parts
    return kind(**parts, **none, requires_safety_checker=False)


def stable_diffusion():
    pipe = _stable_diffusion(diffusers.StableDiffusionPipeline)
    return pipe, embeds(1, 7, WIDTH), pipe.unet.conv_out


def controlnet():
    control = diffusers.ControlNetModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        conditioning_embedding_out_channels=(8, 16),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    for layer in (*control.controlnet_down_blocks, control.controlnet_mid_block):
        torch.nn.init.normal_(layer.weight, std=0.2)
    pipe = _stable_diffusion(diffusers.StableDiffusionControlNetPipeline, controlnet=control)
    call = {"image": torch.rand(1, 3, 32, 32), "control_guidance_end": 0.5}
    return pipe, embeds(1, 7, WIDTH) | call, pipe.unet.conv_out


def ip_adapter():
    pipe = _stable_diffusion(diffusers.StableDiffusionPipeline)
    weights = {}
    for number, name in enumerate(name for name in pipe.unet.attn_processors if "attn2" in name):
        width = pipe.unet.get_submodule(name.removesuffix(".processor")).inner_dim
        for part in ("k", "v"):
            weights[f"{2 * number + 1}.to_{part}_ip.weight"] = torch.randn(width, WIDTH) / 4
    projection = {
        "proj.weight": torch.randn(4 * WIDTH, 16),
        "proj.bias": torch.zeros(4 * WIDTH),
        "norm.weight": torch.ones(WIDTH),
        "norm.bias": torch.zeros(WIDTH),
    }
    pipe.unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": weights}])
    call = {"ip_adapter_image_embeds": [torch.randn(2, 1, 16)]}
    return pipe, embeds(1, 7, WIDTH) | call, pipe.unet.conv_out


def perturbed_attention():
    pipe = _stable_diffusion(
        diffusers.StableDiffusionPAGPipeline, image_encoder=None, pag_applied_layers="mid"
    )
    return pipe, embeds(1, 7, WIDTH) | {"pag_scale": 3.0}, pipe.unet.conv_out


def krea2():
    network = diffusers.Krea2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        timestep_embed_dim=8,
        text_hidden_dim=16,
        num_text_layers=3,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
        rope_theta=1000.0,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_image_seq_len=6400)
    pipe = diffusers.Krea2Pipeline(
        scheduler, qwen_autoencoder(), None, None, network, text_encoder_select_layers=(0, 1, 2)
    )
    call = embeds(1, 7, 3, 16)
    masks = {f"{sign}prompt_embeds_mask": torch.ones(1, 7, dtype=torch.bool) for sign in ("", "negative_")}
    return pipe, call | masks, network.final_layer.linear


class Templates:
    """In place of a processor, which is asked for tokens though prompts are embeddings."""

    def apply_chat_template(self, *_, **__):
        return [[0] * 5]

    def encode(self, _):
        return [0]

    @property
    def tokenizer(self):
        return self


def qwen21():
    network = diffusers.QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    vae = diffusers.AutoencoderKLQwenImage21(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1] * 5,
        num_res_blocks=1,
        temperal_downsample=[False, True, True, True],
        latents_mean=[0.1, 0.0, -0.1, 0.05],
        latents_std=[0.2, 0.3, 0.2, 0.25],
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    pipe = diffusers.QwenImage21Pipeline(scheduler, vae, None, Templates(), network)
    size = {"height": 64, "width": 64}
    return pipe, embeds(1, 7, 16, masks="prompt_embeds_mask") | size, network.proj_out


def ernie():
    network = diffusers.ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=2,
        ffn_hidden_size=64,
        in_channels=4,
        out_channels=4,
        text_in_dim=16,
        rope_axes_dim=(4, 6, 6),
    )
    for weight in network.parameters():
        if weight.ndim == 2 and not weight.any():  # gates that would keep the prompt out
            torch.nn.init.normal_(weight, std=0.1)
    pipe = diffusers.ErnieImagePipeline(
        network, flux2_autoencoder(), None, None, diffusers.FlowMatchEulerDiscreteScheduler()
    )
    call = {f"{sign}prompt_embeds": [torch.randn(7, 16)] for sign in ("", "negative_")}
    return pipe, call, network.final_linear


def longcat():
    network = diffusers.LongCatImageTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 6, 6],
    )
    pipe = diffusers.LongCatImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        kl(16),
        None,
        None,
        None,
        network,
    )
    told = {"a red apple": torch.randn(1, 7, 32), "": torch.randn(1, 7, 32)}
    pipe._encode_prompt = lambda prompt: told[prompt[0]]  # its own embeddings argument fails without a prompt
    return pipe, {"prompt": "a red apple"}, network.proj_out


def hunyuan(momentum=-0.5, start=3):
    network = diffusers.HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=32,
        text_embed_2_dim=32,
        rope_axes_dim=(4, 4),
    )
    vae = diffusers.AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        spatial_compression_ratio=2,
        sample_size=32,
        scaling_factor=0.5,
    )
    guider = diffusers.guiders.AdaptiveProjectedMixGuidance(
        adaptive_projected_guidance_momentum=momentum, adaptive_projected_guidance_start_step=start
    )
    pipe = diffusers.HunyuanImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), vae, None, None, None, None, network, guider
    )
    call = {}
    for sign in ("", "negative_"):
        for number in ("", "_2"):
            call[f"{sign}prompt_embeds{number}"] = torch.randn(1, 7, 32)
            call[f"{sign}prompt_embeds_mask{number}"] = torch.ones(1, 7)
    return pipe, call, network.proj_out


GUIDED, UNGUIDED = {"guidance_scale": 5.0}, {"guidance_scale": 1.0}
CONDITIONED = {
    "sd": (stable_diffusion, 0.5, GUIDED, UNGUIDED),
    "controlnet": (controlnet, 0.5, GUIDED, UNGUIDED),
    "ip-adapter": (ip_adapter, 0.5, GUIDED, UNGUIDED | {"ip_adapter_image_embeds": [torch.randn(1, 1, 16)]}),
    "pag": (perturbed_attention, 0.5, GUIDED, UNGUIDED),
    "krea 2": (krea2, 1.0, {"guidance_scale": 4.5}, {"guidance_scale": 0.0}),
    "qwen 2.1": (qwen21, 1.0, {"true_cfg_scale": 4.0}, {"true_cfg_scale": 1.0}),
    "ernie": (ernie, 1.0, {"guidance_scale": 4.0}, UNGUIDED),
    "longcat": (longcat, 1.0, {"guidance_scale": 4.5}, UNGUIDED),
    "hunyuan": (lambda: hunyuan(None), 1.0, {}, {}),
}
