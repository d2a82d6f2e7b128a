"""A graph of ComfyUI's nodes in both of its forms: the one its API takes, and the one its page opens."""

from typing import Any

from invrecon.comfyui import NODE_CLASS_MAPPINGS

Graph = dict[str, dict[str, Any]]
"""ComfyUI's API form: {number: {"class_type": str, "inputs": {name: value or [number, output]}}}."""

_WIDGETS = ("COMBO", "STRING", "INT", "FLOAT", "BOOLEAN")  # types of what is typed in, not linked
_CONTROL = "fixed"  # the page adds a widget after each `noise_seed`: what becomes of it after a run
_SDXL_SIDES = ("width", "height", "crop_w", "crop_h", "target_width", "target_height")
_SEED_OUTPUTS = NODE_CLASS_MAPPINGS["InvreconLoadSeed"].RETURN_TYPES

NODES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "CheckpointLoaderSimple": ({"ckpt_name": "COMBO"}, ("MODEL", "CLIP", "VAE")),
    "LoraLoader": (
        {
            "model": "MODEL", "clip": "CLIP", "lora_name": "COMBO", "strength_model": "FLOAT",
            "strength_clip": "FLOAT",
        },
        ("MODEL", "CLIP"),
    ),
    "CLIPTextEncode": ({"clip": "CLIP", "text": "STRING"}, ("CONDITIONING",)),
    "CLIPTextEncodeSDXL": (
        {"clip": "CLIP", **dict.fromkeys(_SDXL_SIDES, "INT"), "text_g": "STRING", "text_l": "STRING"},
        ("CONDITIONING",),
    ),
    "FluxGuidance": ({"conditioning": "CONDITIONING", "guidance": "FLOAT"}, ("CONDITIONING",)),
    "LoadLatent": ({"latent": "COMBO"}, ("LATENT",)),
    "InvreconLoadSeed": ({"model": "MODEL", "seed_file": "COMBO"}, _SEED_OUTPUTS),
    "KSamplerSelect": ({"sampler_name": "COMBO"}, ("SAMPLER",)),
    "ManualSigmas": ({"sigmas": "STRING"}, ("SIGMAS",)),
    "EmptySD3LatentImage": ({"width": "INT", "height": "INT", "batch_size": "INT"}, ("LATENT",)),
    "SamplerCustom": (
        {
            "model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "sampler": "SAMPLER",
            "sigmas": "SIGMAS", "latent_image": "LATENT", "add_noise": "BOOLEAN", "noise_seed": "INT",
            "cfg": "FLOAT",
        },
        ("LATENT", "LATENT"),
    ),
    "CFGGuider": (
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "cfg": "FLOAT"},
        ("GUIDER",),
    ),
    "SamplerCustomAdvanced": (
        {
            "noise": "NOISE", "guider": "GUIDER", "sampler": "SAMPLER", "sigmas": "SIGMAS",
            "latent_image": "LATENT",
        },
        ("LATENT", "LATENT"),
    ),
    "VAEDecode": ({"samples": "LATENT", "vae": "VAE"}, ("IMAGE",)),
    "SaveImage": ({"images": "IMAGE", "filename_prefix": "STRING"}, ()),
}  # fmt: skip
"""Of each node that is used: the types of its inputs, those that are linked first, and of its outputs."""


class Builder:
    """Puts nodes into a graph in their order."""

    def __init__(self) -> None:
        self.graph: Graph = {}

    def add(self, kind: str, **inputs: Any) -> str:
        """A node with its inputs, values or `output(...)` of other nodes; its number."""
        number = str(len(self.graph) + 1)
        self.graph[number] = {"class_type": kind, "inputs": inputs}
        return number


def output(number: str, slot: int = 0) -> list[Any]:
    """An output of a node as the input of another."""
    return [number, slot]


def page_form(graph: Graph) -> dict[str, Any]:
    """The form that ComfyUI's page opens: nodes with places, links between them by number."""
    links: list[list[Any]] = []
    nodes = [_page_node(place, number, node, links) for place, (number, node) in enumerate(graph.items())]
    for link, source, slot, *_ in links:
        nodes[source - 1]["outputs"][slot]["links"].append(link)
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _page_node(place: int, number: str, node: dict[str, Any], links: list[list[Any]]) -> dict[str, Any]:
    types, outputs = NODES[node["class_type"]]
    inputs: list[dict[str, Any]] = []
    widgets: list[Any] = []
    for name, kind in types.items():
        value = node["inputs"][name]
        if kind in _WIDGETS:
            widgets += [_page_text(value), _CONTROL] if name == "noise_seed" else [_page_text(value)]
            continue
        links.append([len(links) + 1, int(value[0]), value[1], int(number), len(inputs), kind])
        inputs.append({"name": name, "type": kind, "link": len(links)})
    return {
        "id": int(number),
        "type": node["class_type"],
        "pos": [340 * (place % 5), 280 * (place // 5)],
        "size": [310, 220],
        "flags": {},
        "order": place,
        "mode": 0,
        "inputs": inputs,
        "outputs": [{"name": kind, "type": kind, "links": []} for kind in outputs],
        "properties": {"Node name for S&R": node["class_type"]},
        "widgets_values": widgets,
    }


def _page_text(value: Any) -> Any:
    """The page takes {a|b} for a choice at random, unless the brace is escaped."""
    return value.replace("{", "\\{").replace("}", "\\}") if isinstance(value, str) else value
