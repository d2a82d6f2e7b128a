"""A sampler in ComfyUI's variables, and its nodes' inputs. Nothing of core is used."""

import json
import re
from itertools import pairwise

import torch
from safetensors.torch import load_file

LINKED = {"MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "SAMPLER", "SIGMAS", "NOISE", "GUIDER", "IMAGE"}
DECLARED = {  # what ComfyUI's nodes declare: their required inputs and their outputs
    "CheckpointLoaderSimple": ({"ckpt_name": str}, ["MODEL", "CLIP", "VAE"]),
    "LoraLoader": (
        {"model": "MODEL", "clip": "CLIP", "lora_name": str, "strength_model": float, "strength_clip": float},
        ["MODEL", "CLIP"],
    ),
    "CLIPTextEncode": ({"text": str, "clip": "CLIP"}, ["CONDITIONING"]),
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
        typed = [v for v in graph[number]["inputs"].values() if not isinstance(v, list)]
        assert sorted(map(str, typed)) == sorted(str(v) for v in node["widgets_values"] if v != "fixed")


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
