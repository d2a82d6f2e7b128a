"""Photos: files to upright sRGB, to the model's square and back, pictures to tensors, and to files."""

from invrecon.image.about import read_about
from invrecon.image.canvas import Canvas, Fit, best_size, plan_canvas
from invrecon.image.containers import MAX_MEGAPIXELS
from invrecon.image.photo import Photo, check_photo_file, is_photo_file, load_photo
from invrecon.image.saving import save_gif, save_png
from invrecon.image.tensors import to_image, to_tensor

__all__ = [
    "MAX_MEGAPIXELS",
    "Canvas",
    "Fit",
    "Photo",
    "best_size",
    "check_photo_file",
    "is_photo_file",
    "load_photo",
    "plan_canvas",
    "read_about",
    "save_gif",
    "save_png",
    "to_image",
    "to_tensor",
]
