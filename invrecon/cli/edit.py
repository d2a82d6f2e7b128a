"""`invrecon edit`: photos or seed files, with something in them changed."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from invrecon.cli import options
from invrecon.cli.batch import Files, attempt, exit_code, is_seed_name, run_batch
from invrecon.cli.boundary import EXIT_CODES
from invrecon.cli.output import Row, inversion_figures
from invrecon.cli.sweep import parse_sweep, part_sweeps
from invrecon.errors import UsageError
from invrecon.settings import INVERSIONS, MODES, EditSettings, Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from invrecon.models import Model
    from invrecon.pipeline import Edited, Editing, OnProgress

EPILOG = f"""\b
Examples:
  invrecon edit photo.jpg --prompt "a red apple on a blue background" --to "a red apple on a green background" --auto-mask
  invrecon edit photo.jpg --prompt "a cat" --to "a dog" --mask mask.png --mode swap
  invrecon edit photo.seed.safetensors --photo photo.jpg --to "a pear" --to "a plum" --sweep guidance=3,5 cross-steps=0.4,0.8
  invrecon edit photo.edit.seed.safetensors --out again

{EXIT_CODES}"""

FIELDS = (
    "input",
    "prompt",
    "edits",
    "compare_file",
    "psnr",
    "evaluations",
    "evaluations_per_step",
    "seed_norm",
    "seconds",
    "error",
)


def _option(flag: str, name: str, text: str, metavar: str = "FLOAT") -> Any:
    default = getattr(EditSettings, name)
    return typer.Option(
        flag, metavar=metavar, help=f"{text} [default: {'automatic' if default is None else default}]"
    )


@options.takes_settings(
    without=(
        "guidance_scale",
        "negative_prompt",
        "boost",
        "decoder_ceiling",
        "batch_size",
        *options.GUIDANCE_SEARCH,
    )
)
def edit(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT", help="Photos in any common format, or seed files.")
    ],
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="TEXT", help="What it should show; give it again for more edits."),
    ] = None,
    mode: Annotated[
        str | None, _option("--mode", "mode", "How the edit is tied to the photo.", "|".join(MODES))
    ] = None,
    guidance_scale: Annotated[
        float | None, _option("--guidance-scale", "guidance_scale", "Of the edit; the photo's own has none.")
    ] = None,
    negative_prompt: Annotated[
        str | None,
        typer.Option(
            "--negative-prompt", metavar="TEXT", help="What guidance leads away from. [default: --prompt]"
        ),
    ] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(
            "--mask",
            metavar="FILE",
            help="White may change; of the photo's size; one for all, or one for each.",
        ),
    ] = None,
    auto_mask: Annotated[
        bool | None,
        typer.Option("--auto-mask/--no-auto-mask", help="Change only what the changed words name."),
    ] = None,
    mask_threshold: Annotated[
        float | None, _option("--mask-threshold", "mask_threshold", "Of the attention, for --auto-mask.")
    ] = None,
    forget: Annotated[
        float | None, _option("--forget", "forget", "How much of its colour the seed loses inside a mask.")
    ] = None,
    words: Annotated[
        str | None,
        _option("--words", "words", "p2p: new words take the old ones' places, or look.", "replace|refine"),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="WORD=FLOAT", help="p2p: attention to a word of --to."),
    ] = None,
    cross_steps: Annotated[
        float | None,
        _option("--cross-steps", "cross_steps", "p2p: part of the steps with the photo's words."),
    ] = None,
    self_steps: Annotated[
        float | None, _option("--self-steps", "self_steps", "p2p: part of the steps with the photo's layout.")
    ] = None,
    start_step: Annotated[
        float | None, _option("--start-step", "start_step", "masactrl: part of the steps before it begins.")
    ] = None,
    start_layer: Annotated[
        float | None,
        _option("--start-layer", "start_layer", "masactrl: part of the layers before it begins."),
    ] = None,
    strength: Annotated[
        float | None, _option("--strength", "strength", "sdedit: part of the steps that is done anew.")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep", metavar="NAME=VALUE,...", help="All combinations; names are those of options."
        ),
    ] = None,
    photos: options.Photos = None,
    inversion: Annotated[
        str,
        typer.Option(
            "--inversion", metavar="|".join(INVERSIONS), help="How a photo's seed is found.  [default: lbo]"
        ),
    ] = "lbo",
    boost: Annotated[
        bool,
        typer.Option("--boost/--no-boost", help="Boost the image latents above the autoencoder's own (ILB)."),
    ] = True,
    out: options.Out = Path("."),
    force: options.Force = False,
    min_psnr: options.MinPsnr = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    *,
    settings: Settings,
) -> int:
    """Change something in photos and keep the rest.

    Writes NAME.edit.png, NAME.edit.seed.safetensors, which repeats the edit without further options, and NAME.edit.compare.png for
    each input; NAME.edit-1.png and so on where there are several edits. PSNR and --min-psnr are of the plain reconstruction.
    """
    given = {
        "mode": mode, "guidance_scale": guidance_scale, "negative_prompt": negative_prompt, "auto_mask": auto_mask,
        "mask_threshold": mask_threshold, "forget": forget, "words": words, "weights": _weights(weight), "cross_steps": cross_steps,
        "self_steps": self_steps, "start_step": start_step, "start_layer": start_layer, "strength": strength,
    }  # fmt: skip
    inputs, sweeps = part_sweeps(inputs, sweep)
    changes = {name: value for name, value in given.items() if value is not None}
    wanted: list[str | None] = [*to] if to else [None]
    chosen = parse_sweep(sweeps, mode or (EditSettings.mode if to else None))
    combined = [
        {**changes, **each, **({"to": text} if text is not None else {})}
        for text in wanted
        for each in chosen
    ]
    for each in combined:
        EditSettings(**{"to": "", **each})  # what is out of range is told before a model loads
    job = _Job(
        combined,
        set(chosen[0]),
        _for_each("--mask", mask, inputs),
        _photos(inputs, photos),
        _inversion(inversion),
    )
    if not to and not all(map(is_seed_name, inputs)):
        raise UsageError("say what the picture should show with --to")
    settings = replace(settings, boost=boost, batch_size=1)
    rows = run_batch(
        inputs,
        job.run,
        job.keep,
        job.name_files,
        settings,
        out=out,
        force=force,
        as_json=as_json,
        quiet=quiet,
        fields=FIELDS,
    )
    return exit_code(rows, min_psnr)


class _Job:
    """The same edits for each input."""

    def __init__(
        self,
        changes: Sequence[dict[str, Any]],
        swept: set[str],
        masks: dict[Path, Path],
        photos: dict[Path, Path],
        inversion: Literal["lbo", "ddim"],
    ) -> None:
        self.changes, self.swept, self.masks, self.photos, self.inversion = (
            changes,
            swept,
            masks,
            photos,
            inversion,
        )

    def name_files(self, source: Path, out: Path) -> Files:
        name = (
            re.sub(r"\.edit(-\d+)?$", "", source.stem.removesuffix(".seed"))
            if is_seed_name(source)
            else source.stem
        )
        files: Files = {}
        for number in range(1, len(self.changes) + 1):
            tail = f"-{number}" if len(self.changes) > 1 else ""
            files[f"output{tail}"] = out / f"{name}.edit{tail}.png"
            files[f"seed_file{tail}"] = out / f"{name}.edit{tail}.seed.safetensors"
        return files | {"compare_file": out / f"{name}.edit.compare.png"}

    def run(
        self, inputs: Sequence[Path], model: "Model", settings: Settings, on_progress: "OnProgress"
    ) -> list[Any]:
        [source] = inputs
        return attempt(lambda: self.edit(source, model, settings, on_progress))

    def edit(self, source: Path, model: "Model", settings: Settings, on_progress: "OnProgress") -> "Editing":
        from invrecon import pipeline
        from invrecon.pipeline.origin import stored_edit
        from invrecon.seedfile import load_seed

        if any("to" not in change for change in self.changes):
            base = stored_edit(source, load_seed(source))
            edits = [replace(base, **change) for change in self.changes]
        else:
            edits = [EditSettings(**change) for change in self.changes]
        return pipeline.edit(
            source,
            model,
            edits,
            settings,
            on_progress,
            photo=self.photos.get(source),
            mask=self.masks.get(source),
            inversion=self.inversion,
        )

    def keep(self, result: "Editing", files: Files) -> Row:
        from invrecon.image import save_png
        from invrecon.seedfile import save_seed

        pairs = zip(
            *(iter([path for name, path in files.items() if name != "compare_file"]),) * 2, strict=True
        )
        told = []
        for one, (picture, seed_file) in zip(result.edits, pairs, strict=True):
            save_png(one.picture, picture)
            save_seed(one.seed, seed_file)
            told.append({"output": picture, "seed_file": seed_file} | _figures(one))
        save_png(_sheet(result, self.swept), files["compare_file"])
        figures = inversion_figures(result.inversion) if result.inversion else {}
        prompt = result.edits[0].seed.header["prompt"]
        return figures | {"prompt": prompt, "edits": told, "psnr": result.psnr, "seconds": result.seconds}


def _figures(one: "Edited") -> dict[str, Any]:
    names = ("seconds", "change_db", "outside_psnr", "outside_reconstruction_psnr")
    return asdict(one.settings) | {name: getattr(one, name) for name in names}


def _sheet(result: "Editing", swept: set[str]) -> "Image":
    from invrecon.sheet import Panel, contact_sheet

    first = [Panel("original", "", result.original)] if result.original else []
    note = "" if result.psnr is None else f"PSNR {result.psnr:.2f} dB"
    panels = [*first, Panel("reconstruction", note, result.reconstruction)]
    edits = [Panel(one.settings.to, one.settings.label(swept), one.square) for one in result.edits]
    masks = [Panel("mask", "white may change", one.mask) for one in result.edits if one.mask][:1]
    return contact_sheet([[*panels, *masks, *edits]] if len(edits) == 1 else [panels + masks, edits])


def _weights(texts: Sequence[str] | None) -> dict[str, float] | None:
    try:
        return (
            {word: float(weight) for word, weight in (text.rsplit("=", 1) for text in texts)}
            if texts
            else None
        )
    except ValueError as error:
        raise UsageError('a weight reads WORD=FLOAT, as in --weight "red=1.5"') from error


def _inversion(text: str) -> Literal["lbo", "ddim"]:
    if text == "lbo" or text == "ddim":
        return text  # type: ignore[return-value]
    raise UsageError(f"inversion must be one of {', '.join(INVERSIONS)}, not {text!r}")


def _for_each(option: str, paths: Sequence[Path] | None, inputs: Sequence[Path]) -> dict[Path, Path]:
    """One path for all inputs, or one for each."""
    if not paths:
        return {}
    if len(paths) not in (1, len(inputs)):
        raise UsageError(f"{len(inputs)} inputs need one {option}, or as many, not {len(paths)}")
    return dict(zip(inputs, [*paths] * (len(inputs) if len(paths) == 1 else 1), strict=True))


def _photos(inputs: Sequence[Path], photos: Sequence[Path] | None) -> dict[Path, Path]:
    seeds = [source for source in inputs if is_seed_name(source)]
    if photos and len(photos) != len(seeds):
        raise UsageError(f"{len(seeds)} seed files need as many --photo, not {len(photos)}")
    return dict(zip(seeds, photos or [], strict=False))
