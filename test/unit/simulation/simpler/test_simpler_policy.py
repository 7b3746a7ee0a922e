"""The policy as SIMPLER's evaluators call it, against golden data and on a small random checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paths import DATA
from simpler_plans import ToldPolicy
from simpler_scenes import CAMERA, SapienPose, observation

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.simulation.simpler.convention import SETUPS
from sqap_vla_ros.simulation.simpler.policy import SimplerPolicy
from sqap_vla_ros.simulation.simpler.tool import tool_in_image

GOLDEN = DATA / "cogact" / "policy"
CASES = json.loads((GOLDEN / "policy.json").read_text())
IMAGE = observation()["image"][CAMERA]["rgb"]
CHUNKS = np.random.default_rng(1).normal(0, 0.01, (40, 16, 7))


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[np.float64]]:
    return dict(np.load(GOLDEN / "policy.npz"))


@pytest.fixture(scope="module")
def adapter(simpler_run: Path) -> Callable[[str], SimplerPolicy]:
    def load(policy: str) -> SimplerPolicy:
        settings = {
            "checkpoint": str(simpler_run),
            "policy": policy,
            "statistics_key": "bridge_orig",
            "device": "cpu",
            "torch_threads": 1,
        }
        return SimplerPolicy(
            load_policy(validate(Configuration, settings, "test"), lambda words: None), SETUPS["widowx_bridge"]
        )

    return load


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_actions_are_the_reference_s(case: dict[str, Any], golden: dict[str, NDArray[np.float64]]) -> None:
    name = case["name"]
    policy = SimplerPolicy(ToldPolicy(golden[f"{name}_chunks"]), SETUPS[case["policy_setup"]], case["action_scale"])
    policy.reset("task a")
    for step in range(case["steps"]):
        raw, taken = policy.step(IMAGE, "task a" if step < case["task_change_at_step"] else "task b")
        assert set(raw) == {"world_vector", "rotation_delta", "open_gripper"}
        assert set(taken) == {"world_vector", "rot_axangle", "gripper", "terminate_episode"}
        for kind, values in (("raw", raw), ("act", taken)):
            for key, value in values.items():
                np.testing.assert_allclose(value, golden[f"{name}_{kind}_{key}"][step], rtol=0, atol=1e-9)


def test_the_image_reaches_the_policy_as_the_environment_gave_it() -> None:
    told = ToldPolicy(CHUNKS)
    SimplerPolicy(told, SETUPS["widowx_bridge"]).step(IMAGE, "stack the cubes")
    assert told.seen[0].image is IMAGE and told.seen[0].instruction == "stack the cubes"


def test_no_instruction_means_the_one_before() -> None:
    told = ToldPolicy(CHUNKS)
    policy = SimplerPolicy(told, SETUPS["widowx_bridge"])
    policy.reset("stack the cubes")
    policy.step(IMAGE)
    assert told.seen[0].instruction == "stack the cubes"


def test_control_steps_are_a_control_period_apart() -> None:
    told = ToldPolicy(CHUNKS, time_step_s=1 / 3)
    policy = SimplerPolicy(told, SETUPS["google_robot"])
    policy.reset("open top drawer", episode=0)
    for _ in range(3):
        policy.step(IMAGE)
    assert [seen.stamp_ns for seen in told.seen] == [0, 333_333_333, 666_666_666]


def test_time_goes_on_when_the_instruction_changes_and_the_rest_is_forgotten() -> None:
    told = ToldPolicy(CHUNKS)
    policy = SimplerPolicy(told, SETUPS["widowx_bridge"])
    policy.reset("open top drawer", episode=0)
    policy.step(IMAGE, "open top drawer")
    raw, _ = policy.step(IMAGE, "place apple into top drawer")
    assert told.resets == 2 and told.seen[1].stamp_ns == 200_000_000
    np.testing.assert_array_equal(raw["world_vector"], CHUNKS[1][0, :3])


def test_a_new_episode_mixes_nothing_of_the_last() -> None:
    policy = SimplerPolicy(ToldPolicy(CHUNKS), SETUPS["widowx_bridge"])
    policy.step(IMAGE, "stack the cubes")
    policy.reset("stack the cubes")
    raw, _ = policy.step(IMAGE, "stack the cubes")
    np.testing.assert_array_equal(raw["world_vector"], CHUNKS[1][0, :3])


def test_episodes_without_a_number_are_counted() -> None:
    told = ToldPolicy(CHUNKS)
    policy = SimplerPolicy(told, SETUPS["widowx_bridge"])
    for _ in range(2):
        policy.reset("stack the cubes")
        policy.step(IMAGE)
    policy.reset("stack the cubes", episode=1)
    policy.step(IMAGE)
    first, second, again = (seen.stamp_ns for seen in told.seen)
    assert first != second == again


@pytest.mark.parametrize("name", ["fp16", "sqap", "vla_cache"])
def test_the_same_episode_gives_the_same_actions(name: str, adapter: Callable[[str], SimplerPolicy]) -> None:
    policy = adapter(name)

    def two_steps(episode: int) -> bytes:
        policy.reset("stack the cubes", episode)
        return b"".join(policy.step(IMAGE)[1][key].tobytes() for _ in range(2) for key in ("world_vector", "gripper"))

    first = two_steps(3)
    assert two_steps(4) != first == two_steps(3)


def test_the_ring_is_around_the_tool(adapter: Callable[[str], SimplerPolicy]) -> None:
    policy = adapter("sqap")
    tool = tool_in_image(observation(), SapienPose((-0.05, -0.04, 1.0)), CAMERA)
    policy.step(IMAGE, "stack the cubes", tool=tool)
    assert policy.chunk is not None
    ringed = np.flatnonzero(np.array(policy.chunk.selection.reasons) & Reason.RING)
    # 5 pixels of 160 to the left of the middle and 4 of 128 above it: in row and column 7 of 16, and two more around.
    expected = [16 * row + column for row in range(5, 10) for column in range(5, 10)]
    assert ringed.tolist() == expected and policy.chunk.no_ring_reason == ""


def test_without_the_tool_there_is_no_ring_and_a_reason(adapter: Callable[[str], SimplerPolicy]) -> None:
    policy = adapter("sqap")
    policy.step(IMAGE, "stack the cubes")
    assert policy.chunk is not None and policy.chunk.tool_px is None
    assert "the caller did not say where the tool is" in policy.chunk.no_ring_reason
    assert len(policy.chunk.selection.indices) == 154


def test_a_step_without_any_instruction_is_refused(adapter: Callable[[str], SimplerPolicy]) -> None:
    with pytest.raises(ValueError, match="instruction"):
        adapter("fp16").step(IMAGE)


def test_an_image_of_floats_is_refused() -> None:
    policy = SimplerPolicy(ToldPolicy(CHUNKS), SETUPS["widowx_bridge"])
    with pytest.raises(ValueError, match="image is float32, expected uint8"):
        policy.step(IMAGE.astype(np.float32), "stack the cubes")


def test_an_episode_is_drawn(tmp_path: Path) -> None:
    policy = SimplerPolicy(ToldPolicy(CHUNKS), SETUPS["widowx_bridge"])
    raw = [policy.step(IMAGE, "stack the cubes")[0] for _ in range(7)]
    policy.visualize_epoch(raw, [IMAGE] * 8, save_path=str(tmp_path / "episode.png"))
    drawn = cv2.imread(str(tmp_path / "episode.png"))
    assert drawn is not None and drawn.shape[1] > drawn.shape[0] > 100
