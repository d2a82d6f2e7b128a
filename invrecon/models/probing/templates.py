"""What a pipeline writes around a prompt, chat templates and instructions, and how much of it is read."""

import copy
import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from invrecon.models.probing.conventions import parameters
from invrecon.models.probing.replay import called_otherwise
from invrecon.models.quiet import quiet
from invrecon.models.words import Template

_PROMPT = "qx"  # in no template
_PROMPTS = ("prompt", "pooled_prompt")


class _EnoughError(Exception):
    """Ends the call of a pipeline once its first tokenizer was asked."""


def read_template(pipeline: Any, call: Mapping[str, Any]) -> Template | None:
    """The template of the tokenizer that is asked first, read off what the pipeline's `encode_prompt` gives
    it; no text encoder runs. None where nothing is cut there."""
    if not hasattr(pipeline, "encode_prompt"):
        return None
    known = inspect.signature(type(pipeline).encode_prompt).parameters
    there = parameters(pipeline)
    defaults = {name: one.default for name, one in there.items() if one.default is not one.empty}
    given = defaults | dict(call)
    given |= {name: None for name in given if name.removeprefix("negative_").startswith(_PROMPTS)}
    given |= {"prompt": _PROMPT, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    given["device"] = pipeline._execution_device
    heard: list[Template] = []
    listening = _listening(pipeline, heard)
    with quiet(), suppress(Exception):  # what else fails here fails in every call, which tells it
        listening.encode_prompt(**{name: value for name, value in given.items() if name in known})
    return heard[0] if heard else None


def _listening(pipeline: Any, heard: list[Template]) -> Any:
    """A copy whose tokenizers note what they are to cut, and whose text encoders don't run."""

    def stop(*_args: Any, **_options: Any) -> Any:
        raise _EnoughError

    copied = copy.copy(pipeline)
    for name, part in pipeline.components.items():
        if name.startswith("text_encoder") and part is not None:
            vars(copied)[name] = called_otherwise(part, stop)
        if name.startswith("tokenizer") and part is not None:
            vars(copied)[name] = _with_ear(part, heard)
    return copied


def _with_ear(tokenizer: Any, heard: list[Template]) -> Any:
    if hasattr(tokenizer, "tokenizer"):  # a processor, for pictures too
        copied = copy.copy(tokenizer)
        copied.tokenizer = _with_ear(tokenizer.tokenizer, heard)
        return copied

    def call(text: Any, *args: Any, **options: Any) -> Any:
        if not (options.get("truncation") and options.get("max_length")):
            return tokenizer(text, *args, **options)
        before, found, after = (text[0] if isinstance(text, list) else text).partition(_PROMPT)
        if found:
            special = options.get("add_special_tokens", True)
            heard.append(Template(tokenizer, options["max_length"], before, after, special))
        raise _EnoughError

    return called_otherwise(tokenizer, call)
