"""Training: what it leaves behind, that it learns, and that it goes on where it was."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.robot import Configuration, load_configuration
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.run_directory import RunDirectoryError
from sqap_vla_ros.policies.cogact.load import load_cogact_policy
from sqap_vla_ros.tools.training.dataset import DemonstrationSet, decode
from sqap_vla_ros.tools.training.optimisers import learning_rate
from sqap_vla_ros.tools.training.settings import TrainingError, TrainingSettings
from sqap_vla_ros.tools.training.state import STATE
from sqap_vla_ros.tools.training.train import IDENTITY_FILE, Progress, train

pytestmark = pytest.mark.slow

SETTINGS = TrainingSettings(size="tiny", samples=40, batch=2, draws=2, warm_up=4)
WEIGHTS = Path("checkpoints/cogact-tiny.safetensors")


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, demonstrations: DemonstrationSet, configuration: Configuration
) -> Path:
    """Run directory of twenty steps; not to be changed."""
    directory = tmp_path_factory.mktemp("training") / "run"
    train(demonstrations, directory, SETTINGS, configuration, command="sqap-vla train DEMOS --out RUN")
    return directory


def stop_at_first_report(progress: Progress) -> None:
    signal.raise_signal(signal.SIGTERM)


def test_a_run_is_a_checkpoint_that_plans(run: Path, demonstrations: DemonstrationSet) -> None:
    configuration = load_configuration("libero_panda", checkpoint=str(run), device="cpu", torch_threads=1)
    policy = load_cogact_policy(PolicyConfig(name="dense"), configuration, lambda words: None)
    demonstration = demonstrations.training[0].demonstration
    chunk = policy.plan(
        Observation(
            stamp_ns=1,
            image=decode(demonstration.images[0]),
            instruction=demonstration.instruction,
            T_base_tool=np.eye(4),
            tool_px=None,
            no_ring_reason="",
        )
    )
    assert chunk.actions.shape == (16, 7)


def test_a_run_says_how_it_was_made(run: Path, demonstrations: DemonstrationSet) -> None:
    training = json.loads((run / "config.json").read_text())["training"]
    assert training["command"] == "sqap-vla train DEMOS --out RUN"
    assert training["samples_seen"] == 40
    assert training["demonstrations_sha256"] == demonstrations.sha256
    assert training["tasks"] == ["reach", "touch"]


def test_the_curve_has_losses_and_held_out_errors(run: Path) -> None:
    (point,) = json.loads((run / "curve.json").read_text())
    assert point["samples"] == 40
    assert set(point["losses"]) == {"noise", "motion", "pointer", "offset", "points", "phase"}
    assert set(point["held_out"]["points_px"]) == {"tool", "object"}
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_training_that_was_stopped_ends_with_the_same_weights(
    run: Path, tmp_path: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(demonstrations, tmp_path, SETTINGS, configuration, on_progress=stop_at_first_report)
    assert json.loads((tmp_path / "config.json").read_text())["training"]["samples_seen"] == 20
    train(demonstrations, tmp_path, SETTINGS, configuration)
    expected, found = load_file(run / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert all(found[name].equal(tensor) for name, tensor in expected.items())


def test_a_training_that_has_all_its_samples_changes_nothing(
    run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    before = (run / STATE).read_bytes()
    train(demonstrations, run, SETTINGS, configuration)
    assert (run / STATE).read_bytes() == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch": 4}, {"augment": False}])
def test_a_training_under_other_settings_is_refused(
    run: Path, demonstrations: DemonstrationSet, configuration: Configuration, change: dict[str, int]
) -> None:
    with pytest.raises(RunDirectoryError, match=rf"another {next(iter(change))} \(.*choose another directory"):
        train(demonstrations, run, replace(SETTINGS, **change), configuration)


def test_a_robot_whose_actions_mean_something_else_is_refused(
    run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    action = configuration.action.model_copy(update={"gripper_open": 0.0})
    with pytest.raises(RunDirectoryError, match="another action convention of the robot"):
        train(demonstrations, run, SETTINGS, configuration.model_copy(update={"action": action}))


def test_a_refused_training_leaves_the_directory_as_it_was(
    run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = replace(demonstrations, instructions=("sing", "dance"), sha256="0" * 64)
    with pytest.raises(RunDirectoryError, match="another demonstrations"):
        train(other, run, SETTINGS, configuration)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_model_without_its_training_is_not_written_over(
    tmp_path: Path, run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    shutil.copytree(run, tmp_path / "shipped")
    (tmp_path / "shipped" / STATE).unlink()
    with pytest.raises(TrainingError, match="holds a model, but no"):
        train(demonstrations, tmp_path / "shipped", SETTINGS, configuration)


def test_a_model_that_does_not_say_what_it_was_trained_on_is_not_written_over(
    tmp_path: Path, run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    shutil.copytree(run, tmp_path / "unknown")
    (tmp_path / "unknown" / IDENTITY_FILE).unlink()
    with pytest.raises(RunDirectoryError, match="is missing"):
        train(demonstrations, tmp_path / "unknown", SETTINGS, configuration)


def test_a_state_that_was_cut_off_is_refused_in_a_sentence(
    tmp_path: Path, run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    shutil.copytree(run, tmp_path / "cut")
    (tmp_path / "cut" / STATE).write_bytes((run / STATE).read_bytes()[:1000])
    with pytest.raises(TrainingError, match="cannot be read"):
        train(demonstrations, tmp_path / "cut", SETTINGS, configuration)


def test_a_training_on_other_demonstrations_is_refused(
    run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    with pytest.raises(RunDirectoryError, match="another demonstrations"):
        train(replace(demonstrations, sha256="0" * 64), run, SETTINGS, configuration)


def test_a_training_can_begin_with_the_weights_of_another(
    tmp_path: Path, run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    settings = replace(SETTINGS, samples=2, learning_rate=1e-9, start_from=str(run))
    train(demonstrations, tmp_path / "next", settings, configuration)
    earlier, begun = load_file(run / WEIGHTS), load_file(tmp_path / "next" / WEIGHTS)
    for name, tensor in earlier.items():
        torch.testing.assert_close(begun[name], tensor, rtol=0, atol=1e-3)


def test_what_begins_with_weights_of_another_training_keeps_what_their_outputs_mean(
    tmp_path: Path, run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    shutil.copytree(run, tmp_path / "earlier")
    file = tmp_path / "earlier" / "dataset_statistics.json"
    statistics = json.loads(file.read_text())
    statistics["libero"]["action"]["q01"][0] -= 1.0
    file.write_text(json.dumps(statistics))
    settings = replace(SETTINGS, samples=2, start_from=str(tmp_path / "earlier"))
    train(demonstrations, tmp_path / "next", settings, configuration)
    assert json.loads((tmp_path / "next" / "dataset_statistics.json").read_text()) == statistics


def test_weights_for_other_instructions_are_no_beginning(
    tmp_path: Path, run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    others = replace(demonstrations, instructions=("stir the soup", *demonstrations.instructions[1:]))
    with pytest.raises(TrainingError, match="other instructions"):
        train(others, tmp_path / "next", replace(SETTINGS, start_from=str(run)), configuration)


def test_weights_of_another_size_are_no_beginning(
    tmp_path: Path, run: Path, demonstrations: DemonstrationSet, configuration: Configuration
) -> None:
    settings = replace(SETTINGS, size="small", start_from=str(run))
    with pytest.raises(TrainingError, match="the same --size"):
        train(demonstrations, tmp_path / "next", settings, configuration)


def test_it_learns(tmp_path: Path, demonstrations: DemonstrationSet, configuration: Configuration) -> None:
    settings = replace(SETTINGS, samples=320, batch=4, learning_rate=3e-3, average=0.9, augment=False)
    train(demonstrations, tmp_path, settings, configuration)
    (point,) = json.loads((tmp_path / "curve.json").read_text())
    # Who answers with zeros has a loss of 1.
    assert point["held_out"]["noise"] < 0.7
    assert point["held_out"]["points_px"]["tool"] < 40


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_tenth() -> None:
    settings = TrainingSettings(samples=32 * 1000, warm_up=100)
    rates = np.array([learning_rate(settings, step) for step in range(1000)])
    assert rates.argmax() in (99, 100)
    assert rates.max() == pytest.approx(settings.learning_rate)
    assert (np.diff(rates[100:]) <= 0).all()
    assert rates[-1] == pytest.approx(settings.learning_rate / 10, rel=0.01)


@pytest.mark.parametrize("change", [{"size": "huge"}, {"batch": 0}, {"learning_rate": -1.0}])
def test_settings_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match=f"{next(iter(change))} = "):
        replace(SETTINGS, **change)


def test_averaged_weights_are_between_the_first_and_the_last(run: Path) -> None:
    state = torch.load(run / STATE, weights_only=True)
    now, mean = (
        state["learner"]["auxiliary.query.weight"],
        state["averaged"]["module.auxiliary.query.weight"],
    )
    assert 0 < (now - mean).abs().max() < 0.1
