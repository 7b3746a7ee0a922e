"""What calibration sees of a layer's inputs, over all frames."""

import pytest
import torch
from torch import Tensor

from sqap_vla_ros.config.recipe import Recipe, Rotation
from sqap_vla_ros.tools.compression import layer_calibration
from sqap_vla_ros.tools.compression.layer_calibration import LayerCalibration
from sqap_vla_ros.tools.compression.observed_layer import ObservedLayer
from sqap_vla_ros.vlm.language import LanguageShape
from sqap_vla_ros.vlm.lowbit.hadamard import rotate
from sqap_vla_ros.vlm.lowbit.layer import ATTENTION_INPUT, ATTENTION_OUTPUT, LINEARS, MLP_INPUT, MLP_OUTPUT, NORMS
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer, prepare

SHAPE = LanguageShape(32, 1, 4, 4, 8, 48, 8)
LENGTHS = (70, 40)


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_calibration, "_fast_dtype", lambda device: torch.float32)


def prepared(rotation: Rotation) -> PreparedLayer:
    generator = torch.Generator().manual_seed(0)
    rows = {MLP_INPUT[0]: SHAPE.hidden, MLP_INPUT[1]: SHAPE.hidden}
    weights = {
        name: torch.randn(rows.get(name, 32), 48 if name == MLP_OUTPUT else 32, generator=generator) * 0.2
        for name in LINEARS
    }
    gains = {name: torch.rand(32, generator=generator) + 0.5 for name in NORMS}
    return prepare(weights, gains, Recipe(name="test", rotation=rotation), head_width=SHAPE.head_width)


def frames() -> list[Tensor]:
    """Residual streams of two lengths."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, length, 32, generator=generator) for length in LENGTHS]


def normed(layer: PreparedLayer, frame: Tensor) -> Tensor:
    return torch.nn.functional.rms_norm(frame[0], (32,), layer.gains["input_layernorm"], 1e-5)


def test_the_largest_magnitude_of_a_channel_is_that_of_all_frames() -> None:
    layer = prepared("none")
    both = LayerCalibration(frames(), SHAPE).input_magnitudes(layer, "largest")
    alone = [LayerCalibration([frame], SHAPE).input_magnitudes(layer, "largest") for frame in frames()]
    assert both.keys() == set(LINEARS)
    for name in LINEARS:
        assert torch.equal(both[name], torch.maximum(alone[0][name], alone[1][name]))
    assert torch.allclose(both["self_attn.k_proj"], torch.cat([normed(layer, f) for f in frames()]).abs().amax(0))


def test_largest_magnitudes_are_of_the_inputs_before_their_rotation() -> None:
    plain, rotated = (
        LayerCalibration(frames(), SHAPE).input_magnitudes(prepared(how), "largest") for how in ("none", "inputs")
    )
    assert all(torch.allclose(plain[name], rotated[name], rtol=1e-4) for name in LINEARS)


def test_statistics_are_of_the_rotated_inputs_of_all_frames() -> None:
    layer = prepared("query_key")
    seen = LayerCalibration(frames(), SHAPE).inputs(layer)
    inputs = torch.cat([normed(layer, frame) for frame in frames()])
    query, value = seen["self_attn.q_proj"].statistics, seen["self_attn.v_proj"].statistics
    assert query.tokens == value.tokens == sum(LENGTHS)
    assert torch.allclose(query.hessian, rotate(inputs, 32).T @ rotate(inputs, 32), atol=1e-3)
    assert torch.allclose(value.hessian, inputs.T @ inputs, atol=1e-3)


def test_layers_of_one_input_share_what_was_seen_of_it() -> None:
    seen = LayerCalibration(frames(), SHAPE).inputs(prepared("none"))
    for names in (ATTENTION_INPUT, MLP_INPUT):
        assert all(seen[name] is seen[names[0]] for name in names)
    assert len({id(found) for found in seen.values()}) == 4


def test_samples_are_inputs_from_every_frame() -> None:
    layer = prepared("inputs")
    samples = LayerCalibration(frames(), SHAPE).inputs(layer)["self_attn.q_proj"].samples
    of_each = [rotate(normed(layer, frame), 32) for frame in frames()]
    assert torch.allclose(samples, torch.cat([of_each[0][::2], of_each[1]]), atol=1e-5)


def test_frames_go_on_through_a_finished_layer() -> None:
    layer = prepared("residual")
    calibration = LayerCalibration(frames(), SHAPE)
    before = calibration.input_magnitudes(layer, "largest")[ATTENTION_OUTPUT]
    calibration.advance(ObservedLayer(layer, lambda *_: None))
    assert not torch.allclose(calibration.input_magnitudes(layer, "largest")[ATTENTION_OUTPUT], before)
