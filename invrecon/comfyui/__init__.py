"""A node pack for ComfyUI: seed files as noise, latents, sigmas, prompts and guidance.

Link this folder into ComfyUI's `custom_nodes`. It imports ComfyUI and torch, and nothing else of invrecon.
"""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
