"""Prompts are counted with all that a pipeline writes around them: the stock pipeline's own text encoder gets
the last word."""

import pytest
import torch
from transformers import CLIPImageProcessor, CLIPProcessor, Qwen3Config, Qwen3Model

from invrecon import Model
from invrecon.errors import UsageError
from invrecon.models.probing.prompts import check_prompts
from invrecon.models.probing.templates import read_template
from invrecon.models.quiet import quiet
from tests import checkpoints
from tests.models.conditioned import krea2
from tests.models.pipelines import chroma, flux2, klein, lumina2, qwen, z_image

CHAT = (
    "{% for m in messages %}photo of {{ m.content if m.content is string else m.content[0].text }}"
    " on blue{% endfor %}"
)
ROOM = 200  # tokens of prompt and template
MAKERS = {
    "z-image": (z_image, {}),
    "flux.2": (flux2, {"text_encoder_out_layers": (1, 2)}),
    "flux.2 klein": (klein, {"text_encoder_out_layers": (1, 2)}),
    "lumina 2": (lumina2, {}),
    "chroma": (chroma, {}),
}


def with_text(make, processor=False, runs=False):
    """A pipeline with a tokenizer that has a chat template, and a text encoder that keeps the tokens that it
    gets, and then ends the call, unless it `runs`."""
    torch.manual_seed(0)
    with quiet():
        pipe, _, _ = make()
    tokenizer = checkpoints.t5_tokenizer()
    tokenizer.chat_template = CHAT
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "head_dim": 8}
    config = Qwen3Config(
        vocab_size=len(tokenizer), num_attention_heads=2, num_key_value_heads=2, pad_token_id=0, **size
    )
    encoder, seen = Qwen3Model(config).eval(), []

    def note(_module, args, options):
        [tokens] = args or [options["input_ids"]]
        seen.append(tokens[options["attention_mask"].bool()].tolist())
        if not runs:
            raise InterruptedError

    encoder.register_forward_pre_hook(note, with_kwargs=True)
    with quiet():
        holder = CLIPProcessor(CLIPImageProcessor(), tokenizer) if processor else tokenizer
        holder.chat_template = CHAT
        pipe.register_modules(tokenizer=holder, text_encoder=encoder)
    return pipe, tokenizer, seen


def longest(pipe, call):
    """The most words that are let through."""
    few, many = 1, 600
    while many - few > 1:
        words = (few + many) // 2
        try:
            check_prompts(pipe, call | {"prompt": "apple " * words + "red"})
            few = words
        except UsageError:
            many = words
    return few


@pytest.mark.parametrize("name", ["z-image", "flux.2", "flux.2 klein", "lumina 2"])
def test_a_prompt_is_let_through_up_to_where_the_template_is_cut(name):
    make, layers = MAKERS[name]
    pipe, tokenizer, seen = with_text(make, processor=name == "flux.2")
    call = {"max_sequence_length": ROOM} | layers
    words = longest(pipe, call)
    ends = []
    for more in (0, 1):
        with quiet(), pytest.raises(InterruptedError):
            pipe.encode_prompt("apple " * (words + more) + "red", **call)
        ends.append(seen[-1])
    assert len(ends[0]) == len(ends[1]) == ROOM  # both fill it, and the second lost its end
    template = read_template(pipe, call)
    last = tokenizer("red" + template.after).input_ids
    last = last if template.special else last[:-1]
    assert ends[0][-len(last) :] == last
    assert ends[1][-len(last) :] != last


def test_krea_2_s_suffix_takes_room_from_the_prompt():
    pipe, tokenizer, seen = with_text(krea2)
    call = {"max_sequence_length": ROOM}
    words = longest(pipe, call)
    red = tokenizer("red", add_special_tokens=False).input_ids
    kept = []
    for more in (0, 1):
        with quiet(), pytest.raises(InterruptedError):
            pipe.get_text_hidden_states(["apple " * (words + more) + "red"], ROOM, "cpu")
        kept.append(red[-1] in seen[-1])
    assert kept == [True, False]


@pytest.mark.parametrize("name", ["z-image", "flux.2", "chroma"])
def test_the_error_tells_where_to_end_a_prompt_within_its_template(name):
    make, layers = MAKERS[name]
    pipe, _, _ = with_text(make, processor=name == "flux.2")
    call = {"max_sequence_length": ROOM} | layers
    text = " ".join(f"apple {chr(97 + n // 26)} {chr(97 + n % 26)}" for n in range(200))
    for argument in ("prompt", "negative_prompt"):
        told = argument.replace("_", " ")
        with pytest.raises(
            UsageError, match=rf"the {told} has \d+ tokens, .* takes \d+: end it after"
        ) as caught:
            check_prompts(pipe, call | {argument: text})
        end = str(caught.value).rpartition("after ")[2].strip("'")
        check_prompts(pipe, call | {argument: text[: text.rindex(end) + len(end)]})


def test_no_text_encoder_runs_for_the_count():
    pipe, _, seen = with_text(z_image)
    check_prompts(pipe, {"prompt": "a red apple", "negative_prompt": "blue"})
    assert seen == []


def test_a_prompt_in_a_list_counts_and_is_never_written_to():
    pipe, _, seen = with_text(z_image, runs=True)
    call = {"height": 32, "width": 32, "num_inference_steps": 2, "guidance_scale": 0.0}
    with pytest.raises(UsageError, match="the prompt has"):
        Model.from_pipeline(pipe, prompt=["apple " * 600], **call)
    prompt = ["a red apple"]
    model = Model.from_pipeline(pipe, prompt=prompt, **call)
    assert prompt == ["a red apple"]
    assert all(one == seen[0] for one in seen)
    assert model.base.arguments["prompt"] == prompt


def test_qwen_image_s_template_has_room_of_its_own():
    pipe, tokenizer, seen = with_text(qwen)
    words = longest(pipe, {"max_sequence_length": ROOM})
    assert len(tokenizer("apple " * words + "red").input_ids) == ROOM
    assert seen == []
