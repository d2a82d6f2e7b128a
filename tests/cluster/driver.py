"""A run with simulated work, for tests that kill it and for measurements:
`python -m tests.cluster.driver KIND SECONDS [ADDRESS [WORKERS [OUT]]]`.

It does the photos of the folder `photos` into OUT, as `invrecon ... --resume --json` does. KIND says who
does the work: "here", "processes" or "ray", with so many WORKERS.
"""

import sys
from functools import partial

from invrecon import pipeline
from invrecon.cli import batch
from invrecon.cli.dataset import Resumable
from invrecon.cli.interrupt import end_on_interrupt
from invrecon.cli.output import Output
from invrecon.cluster.listing import Lister
from invrecon.cluster.worker import Plan
from invrecon.settings import Settings
from tests.cluster import work


def main(kind, seconds, address="", workers="2", out="out"):
    end_on_interrupt()
    batch.Plan = partial(Plan, load=work.no_model)
    pipeline.memory_line = lambda model, settings: ""
    by_ray = {"engine": "ray", "address": address, "workers": int(workers)} if kind == "ray" else {}
    if kind == "ray":
        import ray

        ray.cloudpickle.register_pickle_by_value(work)
    settings = Settings(batch_size=1, device="cpu,cpu" if kind == "processes" else "cpu")
    sources = list(Lister(recursive=True).sources(["photos"]))
    target = Resumable(out=out, resume=True, **by_ray)
    rows = batch.run_batch(work.Work(float(seconds)), sources, settings, target, Output(as_json=True))
    sys.exit(batch.exit_code(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
