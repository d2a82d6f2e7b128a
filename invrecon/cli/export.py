"""`invrecon export` and `invrecon import`: seeds for ComfyUI, and back."""

from pathlib import Path
from typing import Annotated, Any

import typer

from invrecon.cli.batch import exit_code
from invrecon.cli.boundary import say
from invrecon.cli.command import CODES, command
from invrecon.cli.inputs import Target, check_output, failure, make_folder
from invrecon.cli.output import Output
from invrecon.cluster.checks import check_header, check_input
from invrecon.errors import InputError, InvreconError, UsageError
from invrecon.formats import is_seed_file

_CODES = {code: text for code, text in CODES.items() if code != 3}
_FIELDS = ("input", "latent_file", "workflow_file", "api_file", "core_scheduler", "advice", "error")


@command(
    examples=["invrecon export fig.seed.safetensors --to comfyui --checkpoint model.safetensors --out comfy"],
    codes=_CODES,
)
def export(
    seeds: Annotated[list[Path], typer.Argument(metavar="SEED", help="Seed files.")],
    target: Target,
    output: Output,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", metavar="FILE", help="The model's file, as ComfyUI lists it.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="comfyui", help="Program that the files are for.")
    ] = "comfyui",
) -> int:
    """Write what ComfyUI needs to make a seed's picture.

    Writes NAME.workflow.json, which ComfyUI opens, NAME.api.json, the same for its API, and NAME.latent,
    which belongs into ComfyUI's input folder. For flow models there is no NAME.latent: the seed file itself
    belongs there, and the nodes that come with invrecon load it.
    """
    if to != "comfyui":
        raise UsageError(
            f"--to {to} isn't possible: a seed is a tensor of noise, and programs that start from a whole "
            "number can't take it; use --to comfyui"
        )
    make_folder(target.out)
    owners: dict[Path, Path] = {}
    rows = [_export(source, seeds, owners, target, checkpoint, output) for source in seeds]
    return exit_code(rows)


def _export(
    source: Path, seeds: list[Path], owners: dict[Path, Path], target: Target, checkpoint: str, output: Output
) -> dict[str, Any]:
    from invrecon.pipeline.comfyui import export_comfyui, save_export

    name = target.out / source.name.removesuffix(".safetensors").removesuffix(".seed")
    endings = {"latent_file": ".latent", "workflow_file": ".workflow.json", "api_file": ".api.json"}
    files = {field: name.with_name(name.name + ending) for field, ending in endings.items()}
    try:
        check_input(source)
        if not is_seed_file(source):
            raise InputError("is no seed file; `invrecon invert` makes one of a photo")
        check_header(source)
        for path in files.values():
            check_output(path, seeds, owners, target.force)
            owners[path] = source
        made = export_comfyui(source, checkpoint)
        save_export(made, name, target.force)
    except UsageError:
        raise
    except (InvreconError, OSError) as error:
        row = failure(source, error)
    else:
        if made.latents is None:
            files["latent_file"] = None  # type: ignore[assignment]
        row = {
            "input": source,
            **files,
            "core_scheduler": made.core_scheduler,
            "advice": made.advice,
            "error": None,
        }
        if made.advice:
            say(f"warning: {source}: {made.advice}")
        for path in filter(None, files.values()):
            output.line(path)
        grid = made.core_scheduler or "none of ComfyUI's schedulers"
        output.line(f"the same grid: {grid}; the workflow has the seed's own, as ManualSigmas")
    output.record({field: row.get(field) for field in _FIELDS})
    return row


@command(
    name="import",
    examples=["invrecon import fig.latent --like fig.seed.safetensors --out seeds"],
    codes=_CODES,
)
def import_(
    latent: Annotated[Path, typer.Argument(metavar="LATENT", help="A .latent file of ComfyUI.")],
    target: Target,
    output: Output,
    like: Annotated[
        Path,
        typer.Option("--like", metavar="SEED", help="A seed file of the same model, prompt, grid and size."),
    ],
) -> int:
    """Make a seed file of latents that ComfyUI starts from without adding noise.

    Writes NAME.seed.safetensors. A .latent file doesn't say what model or grid it is for; --like does.
    """
    from invrecon.pipeline.comfyui import import_latent
    from invrecon.seedfile import save_seed

    make_folder(target.out)
    path = target.out / f"{latent.stem}.seed.safetensors"
    check_output(path, [latent, like], {}, target.force)
    save_seed(import_latent(latent, like), path, target.force)
    output.line(path)
    output.record({"input": latent, "seed_file": path, "error": None})
    return 0
