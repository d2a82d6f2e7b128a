"""The parts of a pipeline that hold weights: each is loaded by its own class, and all of its weights come
from a file."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from invrecon.errors import ModelError
from invrecon.models.files import read_json, weight_files
from invrecon.models.single_file import SingleFile

PLAIN = ("UNet2DConditionModel", "AutoencoderKL")
"""Classes whose files hold no weights but their own; those of text encoders hold more than is used."""


def class_of(library: str, name: str) -> Any:
    """A class of diffusers or transformers. Raises ModelError where the installed version has none of that
    name, or a package that it needs isn't installed."""
    found = getattr(import_module(library), name, None)
    if not isinstance(found, type):
        raise ModelError(f"is a {name}, which {library} doesn't have: a newer version of it may")
    needed = getattr(found, "_backends", ())  # of what stands in its place
    if missing := " ".join(package for package in sorted(needed) if not find_spec(package)):
        raise ModelError(f"is a {name}, which needs what isn't installed: pip install {missing}")
    return found


def is_network(library: str, name: str) -> bool:
    """Whether a part holds weights, unlike a tokenizer or a scheduler."""
    return issubclass(class_of(library, name), nn.Module)


@contextmanager
def told(subject: str) -> Iterator[None]:
    """Turns whatever the libraries raise at files from outside into a ModelError of one line."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"can't load the model {subject} {error}") from error
    except (
        Exception
    ) as error:  # their readers raise all kinds: KeyError, IndexError, SafetensorError, bare Exception
        raise ModelError(f"can't load the model {subject} can't be read: {telling_line(error)}") from error


def telling_line(error: BaseException) -> str:
    """The first line of an error's text that says something: headings end with a colon."""
    text, _, _ = str(error).partition(" If you want to instead overwrite")  # with random weights
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith(":")), (lines or [type(error).__name__])[0])


def from_folder(kind: Any, folder: Path, dtype: torch.dtype, variant: str = "") -> nn.Module:
    """A part in the diffusers layout.

    Raises:
        ModelError: weights are missing or of other shapes.
    """
    import diffusers

    shards = {path.name: SingleFile.read(path) for path in weight_files(folder, variant)}
    for file in shards.values():
        file.check_types()
    for path in folder.glob("*.safetensors.index*.json"):
        _check_index(path, shards)
    if (folder / "config.json").is_file():
        _check_layers(read_json(folder / "config.json"), sum(len(file.shapes) for file in shards.values()))
    ours = issubclass(kind, diffusers.ModelMixin)
    options = {"torch_dtype": dtype} if ours else {"dtype": dtype, "ignore_mismatched_sizes": True}
    module, info = kind.from_pretrained(
        folder,
        variant=variant or None,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        **options,
    )
    _check_whole(module, info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    if kind.__name__ in PLAIN and (others := sorted(info["unexpected_keys"])):
        raise ModelError(
            f"has no place for {len(others)} of its file's weights ({others[0]}): its config.json is of "
            "another architecture; fetch both again"
        )
    for parameter in module.parameters():
        if parameter.dtype == torch.float64:  # some readers leave it so
            parameter.data = parameter.data.to(dtype)
    return module


def _check_layers(config: Mapping[str, Any], weights: int) -> None:
    """Each layer has a weight. A damaged number would have layers made until the memory is full."""
    for name, value in config.items():
        numbers = value if isinstance(value, list) else [value]
        if "layers" in name and any(isinstance(one, int) and one > weights for one in numbers):
            raise ModelError(
                f"has {name} {value!s:.40} in its config.json, and {weights} weights only: fetch both again"
            )


def _check_index(path: Path, shards: Mapping[str, SingleFile]) -> None:
    """Raises ModelError where an index names a shard for weights which that shard lacks: the libraries take
    its word, and would leave them random."""
    places = read_json(path).get("weight_map", {})
    if not isinstance(places, dict):
        raise ModelError(f"has an index without a weight_map ({path}): fetch it again")
    lost = [name for name, file in places.items() if file in shards and name not in shards[file].shapes]
    if lost:
        raise ModelError(
            f"lacks {len(lost)} weights where {path.name} says they are ({lost[0]} in {places[lost[0]]}), "
            "which would be random: fetch its folder again"
        )


def from_file(part: str, kind: Any, folder: Path, file: SingleFile, dtype: torch.dtype) -> nn.Module:
    """A part out of a single file, with the configuration of a folder.

    Raises:
        ModelError: weights are missing, of other shapes, or not all used.
    """
    import diffusers
    import transformers

    if issubclass(kind, transformers.PreTrainedModel):
        return _text_encoder(part, kind, folder, file, dtype)
    config = kind.load_config(folder, local_files_only=True)
    with torch.device("meta"):  # no time or memory for random weights
        module = kind.from_config(config)
    if {name for name, _ in module.named_buffers()} - module.state_dict().keys():
        module = kind.from_config(config)  # it computes some that no file holds
    weights = file.weights(part)
    known = module.state_dict().keys()
    if len(known & weights.keys()) > len(known) / 2:  # diffusers' own names already
        converted = weights
    else:
        try:
            converted = _converter(kind)(config=config, checkpoint=dict(weights))
        except (KeyError, IndexError) as error:
            raise ModelError(
                f"lacks weights that its configuration asks for ({telling_line(error)}): "
                "name a diffusers folder of the same architecture with --base"
            ) from error
    missing, unexpected = module.load_state_dict(converted, strict=False, assign=True)
    if kind is diffusers.UNet2DConditionModel:
        taken = {id(value) for value in converted.values()}
        unexpected += [name for name, value in weights.items() if id(value) not in taken]
        if unexpected and not missing:
            raise ModelError(
                f"has no place for {len(unexpected)} of the file's weights ({unexpected[0]}): "
                f"it is of another architecture; name a diffusers folder of the same with --base"
            )
    _check_whole(module, missing, [*unexpected, *weights])
    return module.to(dtype).eval()


def _converter(kind: Any) -> Any:
    """diffusers' own function from the names of single files to its own."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    if kind.__name__ not in SINGLE_FILE_LOADABLE_CLASSES:
        raise ModelError(f"is a {kind.__name__}, which isn't read from single files")
    return SINGLE_FILE_LOADABLE_CLASSES[kind.__name__]["checkpoint_mapping_fn"]


def _text_encoder(part: str, kind: Any, folder: Path, file: SingleFile, dtype: torch.dtype) -> nn.Module:
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
    from transformers import CLIPTextModelWithProjection

    config = kind.config_class.from_pretrained(folder, local_files_only=True)
    weights = file.weights(part)
    if "positional_embedding" in weights:
        like = SimpleNamespace(config=config)
        weights = convert_open_clip_checkpoint(like, weights, prefix="")
    elif kind is CLIPTextModelWithProjection and part == "text_encoder":
        weights.setdefault(
            "text_projection.weight", torch.eye(config.hidden_size)
        )  # as SD 3 files leave it out
    module, info = kind.from_pretrained(
        None,
        config=config,
        state_dict=weights,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        dtype=dtype,
    )
    _check_whole(module, info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    return module.eval()


def _check_whole(
    module: nn.Module, missing: Collection[str], others: Collection[str], mismatched: Collection[Any] = ()
) -> None:
    """Raises ModelError where parameters would be left at random values.

    Args:
        missing: names that the module has and the file lacks.
        others: names that the file has and the module lacks.
        mismatched: (name, shape in the file, shape in the module).
    """
    if mismatched:
        name, theirs, ours = sorted(mismatched)[0]
        raise ModelError(
            f"has another shape than its configuration says: {name} is {list(theirs)}, not {list(ours)}"
        )
    if lora := next((name for name in sorted(others) if "lora" in name.lower()), None):
        raise ModelError(
            f"has a LoRA still in it ({lora}), which isn't merged into its {len(missing)} missing weights: "
            "call fuse_lora() and unload_lora_weights() in diffusers, then save_pretrained(folder)"
        )
    if missing := sorted(missing):
        total = len(module.state_dict())
        raise ModelError(
            f"lacks {len(missing)} of its {total} weights ({missing[0]}), which would be random: "
            f"{_cause(missing, others)}"
        )


def _cause(missing: list[str], others: Collection[str]) -> str:
    for name in sorted(others):
        for short, long in ((missing[0], name), (name, missing[0])):
            if long.endswith(f".{short}"):
                return f"the file names them with another prefix ({name}); save it again"
    return "the file isn't whole, or its configuration is of another architecture; fetch or save it again"
