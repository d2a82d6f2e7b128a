"""Checkpoints whose text encoders are language models, as folders: by `load_model` and the command line."""

import json

import diffusers
import pytest
import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)
from typer.testing import CliRunner

from invrecon import load_model, load_seed, reconstruct
from invrecon.cli.app import app
from invrecon.metrics import psnr
from invrecon.models.quiet import quiet
from tests.models import pipelines

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMALL = {"intermediate_size": 32, "num_attention_heads": 2, "max_position_embeddings": 4096}


def tokenizer():
    """A token for each byte, under the letters that stand for bytes, in the place of a vocabulary."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 324)]
    made = Qwen2Tokenizer(vocab={chr(letter): number for number, letter in enumerate(letters)}, merges=[])
    made.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    made.add_tokens(["<|im_start|>"], special_tokens=True)
    made.chat_template, made.model_max_length = CHAT, 4096
    return made


def z_image():
    pipe, words = pipelines.z_image()[0], tokenizer()
    sizes = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 3, "head_dim": 8}
    pipe.register_modules(
        tokenizer=words, text_encoder=Qwen3Model(Qwen3Config(**SMALL | sizes, num_key_value_heads=1))
    )
    return pipe


def qwen():
    pipe, words = pipelines.qwen()[0], tokenizer()
    sizes = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 2, "num_key_value_heads": 2}
    turns = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2]}
    eyes = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = Qwen2_5_VLConfig(
        text_config=SMALL | sizes | {"rope_scaling": turns},
        vision_config=eyes | {"window_size": 112, "fullatt_block_indexes": [0]},
    )
    pipe.register_modules(tokenizer=words, text_encoder=Qwen2_5_VLForConditionalGeneration(config))
    return pipe


def klein():
    """Three layers of its text encoder, the 27th among them, are laid side by side."""
    parts, words = pipelines.flux2(width=24)[0].components, tokenizer()
    sizes = {"vocab_size": len(words), "hidden_size": 8, "num_hidden_layers": 27, "head_dim": 4}
    encoder = Qwen3ForCausalLM(Qwen3Config(**SMALL | sizes, num_key_value_heads=1))
    return diffusers.Flux2KleinPipeline(**parts | {"tokenizer": words, "text_encoder": encoder})


@pytest.mark.parametrize(("make", "guidance"), [(z_image, 5), (qwen, 4), (klein, 4)])
def test_a_folder_s_seed_gives_its_picture_in_the_stock_pipeline(make, guidance, photo, tmp_path):
    torch.manual_seed(0)
    folder, out = tmp_path / "m", tmp_path / "out"
    with quiet():
        pipe = make()
        pipe.save_pretrained(folder)
        stock = type(pipe).from_pretrained(folder)
        stock.set_progress_bar_config(disable=True)
    options = [
        "--size",
        64,
        "--fit",
        "crop",
        "--steps",
        4,
        "--prompt",
        "a red apple",
        "--guidance-scale",
        guidance,
    ]
    options += ["--no-boost", "--rtol", 1e-4, "--device", "cpu", "--json", "--model", folder, "--out", out]
    done = CliRunner().invoke(app, ["reconstruct", *map(str, [photo, *options])])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["latent_fidelity_db"] > 60
    path = out / "photo.seed.safetensors"
    model, seed = load_model(str(folder), device="cpu"), load_seed(path)
    call = model.call(seed)
    assert call[seed.header["guidance_argument"]] == guidance
    with quiet():
        theirs = stock(**call).images[0]
        others = stock(**call | {"prompt": "snow"}).images[0]
    ours = reconstruct(path, model).square
    assert psnr(ours, theirs) > 50
    assert psnr(ours, others) < psnr(ours, theirs)  # the prompt counts
    checked = CliRunner().invoke(
        app, ["verify", str(path), str(photo), "--model", str(folder), "--device", "cpu", "--json"]
    )
    assert json.loads(checked.stdout)["latent_fidelity_db"] > 60
