"""Prompts as a pipeline's text encoders take them."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from invrecon.errors import ModelError
from invrecon.models.probing.conventions import parameters
from invrecon.models.probing.templates import read_template
from invrecon.models.quiet import quiet
from invrecon.models.tokenizers import tokenizers_of
from invrecon.models.words import Template, check_learnt_words, check_length

ENDLESS = 1 << 20  # tokenizers without a limit tell a number beyond this


def check_prompts(pipeline: Any, call: Mapping[str, Any]) -> None:
    """Raises UsageError where a prompt has more tokens than the text encoders of the pipeline take that take
    most, or learnt words that the pipeline mixes up. Learnt words and templates count as the pipeline writes
    them out."""
    given = {name: call.get(name) for name in ("prompt", "negative_prompt")}
    given = {name: text[0] if isinstance(text, list) and text else text for name, text in given.items()}
    texts = {name: text for name, text in given.items() if isinstance(text, str)}
    if not any(texts.values()):
        return
    templates, read = _longest(pipeline, call), read_template(pipeline, call)
    if read and (not templates or any(one.tokenizer is read.tokenizer for one in templates)):
        templates.insert(0, read)  # says what is left for the prompt
    for name, text in texts.items():
        told = name.replace("_", " ")
        for tokenizer in tokenizers_of(pipeline).values():
            check_learnt_words(pipeline, tokenizer, told, text)
        for template in templates:
            check_length(pipeline, template, told, text)


PROMPTS = ("prompt", "prompt_2", "prompt_3")


def encoded(pipeline: Any, call: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """The negative prompt in a prompt's place: the embedding of its tokens, (1, L, D), and the arguments that
    go with it, which are the pooled embedding where there is one.

    Raises:
        ModelError: the pipeline encodes prompts otherwise.
    """
    given, there = call.get("negative_prompt_embeds"), parameters(pipeline)
    if isinstance(given, Tensor):
        pooled = call.get("negative_pooled_prompt_embeds")
        return given, {} if pooled is None else {"pooled_prompt_embeds": pooled}
    text = call.get("negative_prompt") or ""
    options = {"device": pipeline._execution_device, "do_classifier_free_guidance": False}
    options |= {name: text if name == "prompt" else None for name in PROMPTS if name in there}
    known = inspect.signature(type(pipeline).encode_prompt).parameters
    named = {"num_images_per_prompt": 1} | options
    with quiet(), torch.no_grad():
        found = pipeline.encode_prompt(**{name: value for name, value in named.items() if name in known})
    if not isinstance(found, tuple) or len(found) not in (2, 4) or not isinstance(found[0], Tensor):
        kind = type(pipeline).__name__
        raise ModelError(
            f"{kind} encodes prompts in a form of its own, which null-text inversion can't learn"
        )
    return found[0], {"pooled_prompt_embeds": found[2]} if len(found) == 4 else {}


def _longest(pipeline: Any, call: Mapping[str, Any]) -> list[Template]:
    """The tokenizers that take the longest prompt, bare; none where one is endless."""
    argument = parameters(pipeline).get("max_sequence_length")
    asked = call.get("max_sequence_length", argument.default if argument else None)
    found: list[Template] = []
    for tokenizer in tokenizers_of(pipeline).values():
        own = int(min(tokenizer.model_max_length, ENDLESS))
        limit = own if asked is None or "CLIP" in type(tokenizer).__name__ else int(asked)
        if limit >= ENDLESS:
            return []
        found.append(Template(tokenizer, limit))
    most = max((one.limit for one in found), default=0)
    return [one for one in found if one.limit == most]
