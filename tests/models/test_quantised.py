"""Pipelines whose networks are quantised, as their users load them. Needs packages that the project doesn't:
`pip install gguf accelerate optimum-quanto`."""

import diffusers
import pytest
import torch

from invrecon import Model
from invrecon.models.probing import PipelineModel
from invrecon.models.quiet import quiet
from tests.models.classic import CLASSIC
from tests.models.pipelines import make
from tests.models.roundtrip import there_and_back

pytest.importorskip("accelerate")


def in_gguf(network, folder):
    """Its matrices in 8 bits (Q8_0), as files of ComfyUI and llama.cpp hold them."""
    gguf = pytest.importorskip("gguf")
    network.save_pretrained(folder / "transformer")
    kind = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(folder / "x.gguf", "flux")
    for name, weight in network.state_dict().items():
        values = weight.numpy()
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return type(network).from_single_file(
        folder / "x.gguf",
        config=str(folder),
        subfolder="transformer",
        quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=torch.float32),
        torch_dtype=torch.float32,
    )


def in_int8(network, _folder):
    quanto = pytest.importorskip("optimum.quanto")
    quanto.quantize(network, weights=quanto.qint8)
    quanto.freeze(network)
    return network


@pytest.mark.parametrize("quantised", [in_gguf, in_int8])
def test_a_quantised_network_is_inverted_as_it_is(quantised, tmp_path):
    pipe, call = make(CLASSIC["flux dev"])
    plain = Model.from_pipeline(pipe, **call).fingerprint
    with quiet():
        pipe.transformer = quantised(pipe.transformer, tmp_path)
    decibels, _, converged = there_and_back(pipe, PipelineModel.from_pipeline(pipe, **call))
    assert decibels > 60
    assert converged
    assert Model.from_pipeline(pipe, **call).fingerprint != plain
