"""Pipelines of every family there and back: the stock pipeline, called as its user would, has the last
word."""

import pytest
import torch

from invrecon.models.probing import PipelineModel
from tests.models.classic import CLASSIC
from tests.models.conditioned import CONDITIONED
from tests.models.pipelines import NEW, make
from tests.models.roundtrip import there_and_back

ALL = CLASSIC | NEW | CONDITIONED
TOLD_NOTHING = ("turbo", "flux schnell", "hunyuan")  # guidance is off, distilled away, or a component's


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_the_stock_call_gives_the_picture_back(name, guided):
    pipe, call = make(ALL[name], guided)
    before = dict(vars(pipe))
    model = PipelineModel.from_pipeline(pipe, **call)
    decibels, _, converged = there_and_back(pipe, model)
    assert decibels > 80
    assert converged
    after = vars(pipe)
    assert all(after[part] is value for part, value in before.items() if hasattr(value, "config"))


@pytest.mark.parametrize("name", [name for name in ALL if name not in TOLD_NOTHING])
def test_guidance_reaches_the_prediction_under_the_pipeline_s_own_name(name):
    pipe, call = make(ALL[name])
    denoiser, schedule = PipelineModel.from_pipeline(pipe, **call).denoiser_and_schedule()
    latents, t = (
        torch.randn(1, *denoiser.forms.shape, generator=torch.Generator().manual_seed(0)),
        schedule.timesteps[3],
    )
    with torch.no_grad():
        guided, plain = denoiser(latents, t), denoiser.unguided()(latents, t)
        assert torch.equal(denoiser.at(denoiser.guidance_scale)(latents, t), guided)
    assert (guided - plain).norm() > 1e-5 * plain.norm()
    assert denoiser.guidance_scale == next(iter(ALL[name][2].values()))
    assert denoiser.unguided().rounding == torch.finfo(torch.float32).eps
