"""Pipelines of many families: the real classes of diffusers with tiny random networks, and the arguments that
a user would give."""

import diffusers
import pytest
import torch

from invrecon.models.quiet import quiet
from tests import checkpoints

SIZE = {"height": 32, "width": 32}


def kl(channels=4, **options):
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        norm_num_groups=4,
        latent_channels=channels,
        **{"scaling_factor": 4.0, "shift_factor": 0.1} | options,
    )


def qwen_autoencoder():
    return diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1, 0.0, -0.1, 0.05],
        latents_std=[0.2, 0.3, 0.2, 0.25],
    )


def flux2_autoencoder():
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(4,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        layers_per_block=1,
        latent_channels=1,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    vae.bn.running_mean.normal_(std=0.1)
    vae.bn.running_var.uniform_(0.2, 0.5)
    return vae


def embeds(*shape, masks=None, pooled=None, listed=False):
    """Arguments for a prompt and a negative one, as embeddings."""
    call = {}
    for sign in ("", "negative_"):
        one = torch.randn(*shape)
        call[f"{sign}prompt_embeds"] = [one[0]] if listed else one
        if masks:
            call[f"{sign}{masks}"] = torch.ones(shape[:2], dtype=torch.long)
        if pooled:
            call[f"{sign}pooled_prompt_embeds"] = torch.randn(1, pooled)
    return call


def positive(call):
    return {name: value for name, value in call.items() if not name.startswith("negative")}


def qwen():
    network = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    pipe = diffusers.QwenImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), qwen_autoencoder(), None, None, network
    )
    return pipe, embeds(1, 7, 16, masks="prompt_embeds_mask"), network.proj_out


def z_image():
    network = diffusers.ZImageTransformer2DModel(
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    with torch.no_grad():
        network.x_pad_token.fill_(1.0)
        network.cap_pad_token.fill_(1.0)
    pipe = diffusers.ZImagePipeline(diffusers.FlowMatchEulerDiscreteScheduler(), kl(16), None, None, network)
    return pipe, embeds(1, 7, 16, listed=True), network.all_final_layer["2-1"].linear


def flux2(width=16):
    network = diffusers.Flux2Transformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=width,
        axes_dims_rope=[4, 4, 4, 4],
    )
    pipe = diffusers.Flux2Pipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), flux2_autoencoder(), None, None, network
    )
    return pipe, positive(embeds(1, 7, 16)), network.proj_out


def klein():
    parts = flux2()[0].components
    return diffusers.Flux2KleinPipeline(**parts), embeds(1, 7, 16), parts["transformer"].proj_out


def ovis():
    network = diffusers.OvisImageTransformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    pipe = diffusers.OvisImagePipeline(scheduler, kl(), None, None, network)
    return pipe, embeds(1, 7, 32), network.proj_out


def chroma():
    network = diffusers.ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=[4, 4, 8],
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    pipe = diffusers.ChromaPipeline(diffusers.FlowMatchEulerDiscreteScheduler(), kl(), None, None, network)
    masks = {f"{sign}prompt_attention_mask": torch.ones(1, 7) for sign in ("", "negative_")}
    return pipe, embeds(1, 7, 32) | masks, network.proj_out


def sana(scheduler=None):
    network = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=16,  # fewer, and linear attention divides by zero where random features vanish
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=8,
    )
    blocks = ("ResBlock", "EfficientViTBlock")
    vae = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.5,
    )
    pipe = diffusers.SanaPipeline(
        None, None, vae, network, scheduler or diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    )
    call = embeds(1, 7, 8, masks="prompt_attention_mask")
    return pipe, call, network.proj_out


def flow_dpm():
    """As Sana's checkpoints have it."""
    return diffusers.DPMSolverMultistepScheduler(
        beta_schedule="linear",
        flow_shift=3.0,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
    )


def pixart():
    network = diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
    )
    pipe = diffusers.PixArtSigmaPipeline(
        None, None, kl(), network, diffusers.DDIMScheduler(clip_sample=False)
    )
    call = embeds(1, 7, 32, masks="prompt_attention_mask")
    return pipe, call, network.proj_out


def aura_flow():
    network = diffusers.AuraFlowTransformer2DModel(
        sample_size=32,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pos_embed_max_size=256,
    )
    pipe = diffusers.AuraFlowPipeline(None, None, kl(), network, diffusers.FlowMatchEulerDiscreteScheduler())
    return pipe, embeds(1, 7, 32, masks="prompt_attention_mask"), network.proj_out


def lumina2():
    network = diffusers.Lumina2Transformer2DModel(
        in_channels=4,
        hidden_size=8,
        num_layers=2,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=[4, 2, 2],
        cap_feat_dim=8,
    )
    pipe = diffusers.Lumina2Pipeline(
        network,
        diffusers.FlowMatchEulerDiscreteScheduler(),
        checkpoints.autoencoder(shift_factor=0.1),
        None,
        None,
    )
    call = embeds(1, 7, 8) | {"height": 64, "width": 64}
    masks = {f"{sign}prompt_attention_mask": torch.ones(1, 7, dtype=torch.bool) for sign in ("", "negative_")}
    return pipe, call | masks, network.norm_out.linear_2


def cogview4():
    network = diffusers.CogView4Transformer2DModel(
        in_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        base_shift=0.25,
        max_shift=0.75,
        base_image_seq_len=256,
        use_dynamic_shifting=True,
        time_shift_type="linear",
    )
    pipe = diffusers.CogView4Pipeline(None, None, kl(), network, scheduler)
    return pipe, embeds(1, 16, 32), network.proj_out


def hidream():
    network = diffusers.HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=[32, 16],
        text_emb_dim=64,
        num_routed_experts=4,
        num_activated_experts=4,  # all: a choice among them would jump
        axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32),
        llama_layers=(0, 1),
    )
    pipe = diffusers.HiDreamImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), kl(), *[None] * 8, network
    )
    pipe.default_sample_size = 16  # it takes any size for one of that area
    call = {}
    for sign in ("", "negative_"):
        call[f"{sign}prompt_embeds_t5"] = torch.randn(1, 8, 32)
        call[f"{sign}prompt_embeds_llama3"] = torch.randn(2, 1, 1, 8, 16)[:, :, 0]
        call[f"{sign}pooled_prompt_embeds"] = torch.randn(1, 64)
    return pipe, call, network.final_layer.linear


def kolors():
    network = diffusers.UNet2DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=56,
        cross_attention_dim=8,
        norm_num_groups=8,
    )
    scheduler = diffusers.EulerDiscreteScheduler(**checkpoints.BETAS, timestep_spacing="leading")
    pipe = diffusers.KolorsPipeline(kl(), None, None, network, scheduler)
    return pipe, embeds(1, 7, 8, pooled=8), network.conv_out


NEW = {  # name: how it is made, how much its last layer is scaled by, the usual guidance, and none
    "qwen": (qwen, 1.0, {"true_cfg_scale": 4.0}, {"true_cfg_scale": 1.0}),
    "z-image": (z_image, 1.0, {"guidance_scale": 5.0}, {"guidance_scale": 0.0}),
    "flux.2": (flux2, 1.0, {"guidance_scale": 4.0}, {"guidance_scale": 1.0}),
    "flux.2 klein": (klein, 1.0, {"guidance_scale": 4.0}, {"guidance_scale": 1.0}),
    "ovis": (ovis, 1.0, {"guidance_scale": 5.0}, {"guidance_scale": 1.0}),
    "chroma": (chroma, 1.0, {"guidance_scale": 5.0}, {"guidance_scale": 1.0}),
    "sana": (sana, 1.0, {"guidance_scale": 4.5}, {"guidance_scale": 1.0}),
    "sana dpm++": (lambda: sana(flow_dpm()), 1.0, {"guidance_scale": 4.5}, {"guidance_scale": 1.0}),
    "pixart": (pixart, 1.0, {"guidance_scale": 4.5}, {"guidance_scale": 1.0}),
    "auraflow": (aura_flow, 1.0, {"guidance_scale": 3.5}, {"guidance_scale": 1.0}),
    "lumina 2": (lumina2, 1.0, {"guidance_scale": 4.0}, {"guidance_scale": 1.0}),
    "cogview4": (cogview4, 1.0, {"guidance_scale": 5.0}, {"guidance_scale": 1.0}),
    "hidream": (hidream, 1.0, {"guidance_scale": 5.0}, {"guidance_scale": 1.0}),
    "kolors": (kolors, 0.05, {"guidance_scale": 5.0}, {"guidance_scale": 1.0}),
}


def make(entry, guided=True):
    """(pipeline, the arguments of its call), always with the same weights."""
    function, factor, usual, none = entry
    torch.manual_seed(0)
    with quiet():
        try:
            pipe, call, last = function()
        except (AttributeError, ImportError) as error:
            if "module diffusers" in str(error) or "sentencepiece" in str(error):
                pytest.skip(str(error).strip().splitlines()[0])  # an older diffusers; Kolors' own need
            raise
    checkpoints.scaled(None, last, factor)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe, SIZE | call | {"num_inference_steps": 10} | (usual if guided else none)
