"""Prompts as a pipeline's text encoders take them."""

from collections.abc import Mapping
from typing import Any

from invrecon.errors import UsageError
from invrecon.models.probing.conventions import parameters
from invrecon.models.quiet import quiet

ENDLESS = 1 << 20  # tokenizers without a limit tell a number beyond this


def check_prompts(pipeline: Any, call: Mapping[str, Any]) -> None:
    """Raises UsageError where a prompt has more tokens than any text encoder of the pipeline takes."""
    tokenizer, limit = _longest(pipeline, call)
    if tokenizer is None:
        return
    for text in (call.get("prompt"), call.get("negative_prompt")):
        if not isinstance(text, str):
            continue
        with quiet():
            ids = tokenizer(text).input_ids
        if len(ids) > limit:
            special = tokenizer.num_special_tokens_to_add()
            kept = tokenizer.decode(ids[: limit - 1], skip_special_tokens=True)
            raise UsageError(
                f"the prompt has {len(ids) - special} tokens, the text encoder takes {limit - special}: "
                f"end it after {kept[-40:]!r}"
            )


def _longest(pipeline: Any, call: Mapping[str, Any]) -> tuple[Any, int]:
    """The tokenizer that takes the longest prompt, and how many tokens, special ones included; None where all
    are endless."""
    argument = parameters(pipeline).get("max_sequence_length")
    asked = call.get("max_sequence_length", argument.default if argument else None)
    found: tuple[Any, int] = (None, 0)
    for name, tokenizer in pipeline.components.items():
        if not name.startswith("tokenizer") or not hasattr(tokenizer, "num_special_tokens_to_add"):
            continue
        own = int(min(tokenizer.model_max_length, ENDLESS))
        limit = own if asked is None or "CLIP" in type(tokenizer).__name__ else int(asked)
        if limit >= ENDLESS:
            return None, 0
        found = max(found, (tokenizer, limit), key=lambda pair: pair[1])
    return found
