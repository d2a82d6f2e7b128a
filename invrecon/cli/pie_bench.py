"""`invrecon audit-edit --pie-bench`: the benchmark's photos, by its own metrics."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli.batch import load
from invrecon.cli.boundary import say
from invrecon.cli.inputs import make_folder
from invrecon.cli.output import Output
from invrecon.cli.tables import Columns
from invrecon.errors import UsageError
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.audit.edits.trials import EditPlan

# Powers of ten as the benchmark's tables have them
_SCALES = {"structure_distance": 1e3, "lpips": 1e3, "mse": 1e4, "ssim": 1e2}
_COLUMNS: Columns = {
    "mask": ("mask", ""),
    "inversion": ("inversion", ""),
    "photos": ("photos", ""),
    "everything": ("no back-\nground", ""),
    "structure_distance": ("structure\ndistance e3", ".2f"),
    "psnr": ("PSNR", ".2f"),
    "lpips": ("LPIPS\ne3", ".2f"),
    "mse": ("MSE\ne4", ".2f"),
    "ssim": ("SSIM\ne2", ".2f"),
    "clip_whole": ("CLIP\nwhole", ".2f"),
    "clip_edited": ("CLIP\nedited", ".2f"),
}


@dataclass(frozen=True)
class Benchmark:
    """The benchmark, and what judges its edits."""

    folder: Annotated[
        Path | None,
        typer.Option(
            "--pie-bench",
            metavar="DIR",
            help="PIE-Bench's folder, with mapping_file.json and annotation_images, in place of cut-outs.",
        ),
    ] = None
    lpips: Annotated[
        Path | None,
        typer.Option(
            "--lpips-weights",
            metavar="FILE",
            help="LPIPS, as safetensors.torch.save_model(lpips.LPIPS(net='squeeze'), FILE) writes it.",
        ),
    ] = None
    clip: Annotated[
        Path | None,
        typer.Option("--clip", metavar="DIR", help="CLIP in transformers' layout: clip-vit-large-patch14."),
    ] = None
    dino: Annotated[
        Path | None,
        typer.Option("--dino", metavar="DIR", help="DINO in transformers' layout: dino-vitb8."),
    ] = None


def run_pie_bench(
    benchmark: Benchmark,
    plan: "EditPlan",
    inversions: list[Any],
    settings: Settings,
    out: Path | None,
    output: Output,
) -> int:
    """Makes and judges all edits; returns the exit code."""
    from invrecon.audit.edits.background import Judges
    from invrecon.audit.edits.benchmark import run_benchmark, tabulate_benchmark
    from invrecon.audit.edits.pie_bench import read_benchmark

    assert benchmark.folder
    if out is None:
        raise UsageError("--pie-bench takes hours and goes on where it was stopped: name a folder with --out")
    cases = read_benchmark(benchmark.folder)
    judges = _judges(benchmark) if benchmark.lpips or benchmark.clip or benchmark.dino else Judges()
    make_folder(out)
    model = load(settings, output)
    with output.progress("PIE-Bench") as on_progress:
        rows = list(run_benchmark(cases, plan, inversions, judges, model, settings, out, on_progress))
    failed = [row for row in rows if row["error"]]
    for row in failed:
        say(f"{row['photo']}, {row['inversion']}: {row['error']}")
    _tell(tabulate_benchmark(rows), rows, settings, output)
    return 1 if failed else 0


def _judges(benchmark: Benchmark) -> Any:
    from invrecon.audit.edits.background import Judges
    from invrecon.models.judges import Clip, Dino, Lpips

    return Judges(
        lpips=Lpips(benchmark.lpips) if benchmark.lpips else None,
        clip=Clip(benchmark.clip) if benchmark.clip else None,
        dino=Dino(benchmark.dino) if benchmark.dino else None,
    )


def _tell(
    lines: list[dict[str, Any]], rows: list[dict[str, Any]], settings: Settings, output: Output
) -> None:
    grid = {"steps": settings.num_inference_steps, "size": settings.size}
    output.record(grid | {"rows": lines, "edits": rows})
    told = [
        line | {name: scale * line[name] for name, scale in _SCALES.items() if line[name] is not None}
        for line in lines
    ]
    output.figures("edit", [line["edit"] for line in lines], told, [_COLUMNS])
