"""The steps of a scheduler without a pipeline."""

from invrecon.models.grid import schedule_of
from invrecon.models.quiet import quiet


def read_schedule(scheduler, num_inference_steps):
    """The schedule of a fresh copy."""
    with quiet():
        fresh = type(scheduler).from_config(scheduler.config)
        fresh.set_timesteps(num_inference_steps)
        return schedule_of(fresh)
