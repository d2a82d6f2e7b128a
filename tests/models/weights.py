"""Changes to the weight files of checkpoints, as they are met in the wild."""

import json
import shutil

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from invrecon.errors import ModelError
from invrecon.models import load_model


def copy(folder, target):
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(folder, target)


def rewrite(folder, change, pattern="*.safetensors"):
    """Applies `change`, a function of a dictionary of weights, to a part's file or to a single file."""
    path = next(folder.glob(pattern)) if folder.is_dir() else folder
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(change(load_file(path)), path, metadata=metadata)
    return path


def configure(path, **changes):
    """Changes a JSON file's fields; ... takes one out."""
    table = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in table.items() if value is not ...}))


def without(text):
    return lambda weights: {name: value for name, value in weights.items() if text not in name}


def renamed(old, new):
    return lambda weights: {name.replace(old, new): value for name, value in weights.items()}


def with_lora(weights):
    """As save_pretrained writes a network with a LoRA still loaded."""
    kept = {}
    for name, value in weights.items():
        layer, kind = name.rsplit(".", 1)
        if layer.endswith(("to_q", "to_v")):
            kept[f"{layer}.base_layer.{kind}"] = value
            kept[f"{layer}.lora_A.default.weight"] = value[:4].clone()
        else:
            kept[name] = value
    return kept


def refused(path, **options):
    """The one line with which a checkpoint is refused."""
    with pytest.raises(ModelError) as caught:
        load_model(str(path), device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
