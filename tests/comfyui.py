"""A sampler in ComfyUI's variables, and its nodes' inputs. Nothing of core is used."""

import json
import re
from itertools import pairwise

import torch
from safetensors.torch import load_file

LINKED = {"MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "SAMPLER", "SIGMAS", "NOISE", "GUIDER", "IMAGE"}
SIDES = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
DECLARED = {  # what ComfyUI's nodes declare: their required inputs and their outputs
    "CheckpointLoaderSimple": ({"ckpt_name": str}, ["MODEL", "CLIP", "VAE"]),
    "LoraLoader": (
        {"model": "MODEL", "clip": "CLIP", "lora_name": str, "strength_model": float, "strength_clip": float},
        ["MODEL", "CLIP"],
    ),
    "CLIPTextEncode": ({"text": str, "clip": "CLIP"}, ["CONDITIONING"]),
    "CLIPTextEncodeSDXL": (
        {"clip": "CLIP", **dict.fromkeys(SIDES, int), "text_g": str, "text_l": str}, ["CONDITIONING"],
    ),
    "FluxGuidance": ({"conditioning": "CONDITIONING", "guidance": float}, ["CONDITIONING"]),
    "LoadLatent": ({"latent": str}, ["LATENT"]),
    "KSamplerSelect": ({"sampler_name": str}, ["SAMPLER"]),
    "ManualSigmas": ({"sigmas": str}, ["SIGMAS"]),
    "EmptySD3LatentImage": ({"width": int, "height": int, "batch_size": int}, ["LATENT"]),
    "SamplerCustom": (
        {"model": "MODEL", "add_noise": bool, "noise_seed": int, "cfg": float, "positive": "CONDITIONING",
         "negative": "CONDITIONING", "sampler": "SAMPLER", "sigmas": "SIGMAS", "latent_image": "LATENT"},
        ["LATENT", "LATENT"],
    ),
    "CFGGuider": (
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "cfg": float}, ["GUIDER"],
    ),
    "SamplerCustomAdvanced": (
        {"noise": "NOISE", "guider": "GUIDER", "sampler": "SAMPLER", "sigmas": "SIGMAS",
         "latent_image": "LATENT"},
        ["LATENT", "LATENT"],
    ),
    "VAEDecode": ({"samples": "LATENT", "vae": "VAE"}, ["IMAGE"]),
    "SaveImage": ({"images": "IMAGE", "filename_prefix": str}, []),
    "InvreconLoadSeed": (
        {"seed_file": str, "model": "MODEL"}, ["NOISE", "LATENT", "SIGMAS", "STRING", "STRING", "FLOAT"],
    ),
}  # fmt: skip
RANGES = {  # of numbers: the least, the largest and the step
    **{("CLIPTextEncodeSDXL", side): (0, 16384, 1) for side in SIDES},
    **{("EmptySD3LatentImage", side): (16, 16384, 16) for side in ("width", "height")},
    ("EmptySD3LatentImage", "batch_size"): (1, 4096, 1),
    ("SamplerCustom", "noise_seed"): (0, 2**64 - 1, 1),
    ("SamplerCustom", "cfg"): (0, 100, 0),
    ("CFGGuider", "cfg"): (0, 100, 0),
    ("FluxGuidance", "guidance"): (0, 100, 0),
}


def check_graph(graph):
    """Each node has the inputs that it declares, each link leads to an output of the input's type."""
    for node in graph.values():
        inputs, _ = DECLARED[node["class_type"]]
        assert node["inputs"].keys() == inputs.keys()
        for name, kind in inputs.items():
            value = node["inputs"][name]
            if kind in LINKED:
                source, slot = value
                assert DECLARED[graph[source]["class_type"]][1][slot] == kind
            else:
                assert type(value) is kind
                low, high, step = RANGES.get((node["class_type"], name), (value, value, 0))
                assert low <= value <= high
                assert not step or value % step == 0


def check_page(page, graph):
    """The page's form says what the API's does."""
    nodes = {str(node["id"]): node for node in page["nodes"]}
    assert {number: node["type"] for number, node in nodes.items()} == {
        number: node["class_type"] for number, node in graph.items()
    }
    links = {link[0]: link for link in page["links"]}
    for number, node in nodes.items():
        for slot, entry in enumerate(node["inputs"]):
            _, source, output, target, place, kind = links[entry["link"]]
            assert [str(source), output] == graph[number]["inputs"][entry["name"]]
            assert (str(target), place, kind) == (number, slot, entry["type"])
            assert entry["link"] in nodes[str(source)]["outputs"][output]["links"]
        typed = []  # in the order in which the node declares its inputs
        for name, kind in DECLARED[node["type"]][0].items():
            value = graph[number]["inputs"][name]
            if kind is str:
                value = value.replace("{", "\\{").replace("}", "\\}")  # else the page draws one of {a|b}
            typed += [] if kind in LINKED else [value, "fixed"] if name == "noise_seed" else [value]
        assert node["widgets_values"] == typed


def sigmas_of(graph):
    text = next(node["inputs"]["sigmas"] for node in graph.values() if node["class_type"] == "ManualSigmas")
    return [float(number) for number in re.findall(r"[-+]?(?:\d*\.*\d+)", text)]


def read(folder, name):
    """(latents or None, sigmas) of the exported files."""
    graph = json.loads((folder / f"{name}.api.json").read_text())
    check_graph(graph)
    check_page(json.loads((folder / f"{name}.workflow.json").read_text()), graph)
    if not (folder / f"{name}.latent").exists():
        return None, sigmas_of(graph)
    tensors = load_file(folder / f"{name}.latent")
    assert tensors["latent_format_version_0"].numel() == 0
    return tensors["latent_tensor"], sigmas_of(graph)


def sample(x, sigmas, network, prediction, alphas_cumprod):
    """Euler steps dx / dsigma = (x - denoised) / sigma from x at the first sigma."""
    x = x.double()
    table = ((1 - alphas_cumprod) / alphas_cumprod).double().sqrt().log()
    for sigma, after in pairwise(sigmas):
        if prediction == "flow":
            denoised = x - sigma * network(x.float(), torch.tensor(sigma * 1000.0)).double()
        else:
            t = (table - torch.tensor(sigma, dtype=torch.float64).log()).abs().argmin()
            output = network((x / (sigma**2 + 1) ** 0.5).float(), t).double()
            if prediction == "v_prediction":
                denoised = x / (sigma**2 + 1) - output * sigma / (sigma**2 + 1) ** 0.5
            else:
                denoised = x - output * sigma
        x = x + (x - denoised) / sigma * (after - sigma)
    return x
