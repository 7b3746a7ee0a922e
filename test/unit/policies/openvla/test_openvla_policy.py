"""From a policy file, a directory and an observation to a chunk; and what the files do not say, said or refused."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from openvla_data import HEADS, close, picture

from sqap_vla_ros.config.files import ConfigurationError, config_directory
from sqap_vla_ros.config.openvla import OpenVlaConfig
from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.config.robot import ActionConvention, Configuration
from sqap_vla_ros.core.action_chunk import ActionSpace, CommittedActions
from sqap_vla_ros.core.observation import Observation, View
from sqap_vla_ros.core.policy import PolicyMetadata, PolicyNeeds
from sqap_vla_ros.policies.openvla.osc import controller_inputs, reached_changes
from sqap_vla_ros.policies.openvla.policy import OpenVlaPolicy, token_ids
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.testing.small_tokenizer import write_small_tokenizer
from sqap_vla_ros.vlm.tokenizer import BLANK_ID, load_tokenizer
from sqap_vla_ros.vlm.weights import CheckpointError

AT_20_HZ = ActionConvention(rate_hz=20.0)
LIBERO = "libero_spatial_no_noops"
ALOHA = "aloha1_put_X_into_pot_300_demos"


class Recorded:
    """A tokenizer that knows one prompt."""

    def __init__(self, ids):
        self.ids = ids

    def encode_text(self, text):
        return self.ids[0].tolist()


@pytest.fixture(scope="module")
def run_of(directory_of, tmp_path_factory):
    """A directory that a user would have: with a tokenizer, and the heads of its small towers."""
    root = tmp_path_factory.mktemp("runs")

    def write(name):
        if not (root / name).exists():
            shutil.copytree(directory_of(name), root / name)
            write_small_tokenizer(root / name, ["open the drawer"])
            config = json.loads((root / name / "config.json").read_text())
            (root / name / "config.json").write_text(json.dumps({**config, "architecture": HEADS}))
        return root / name

    return write


def load(run, policy, key="", **settings):
    configuration = Configuration(
        checkpoint=str(run),
        policy=str(policy),
        statistics_key=key,
        device="cpu",
        torch_threads=1,
        **{"action": AT_20_HZ, **settings},
    )
    return load_policy(configuration, lambda words: None)


def policy_file(path, base, **changes):
    """A policy file that differs from a shipped one; a value of None removes a setting."""
    content = yaml.safe_load((config_directory() / "policies" / f"{base}.yaml").read_text())
    content["openvla"] = {k: v for k, v in {**content["openvla"], **changes}.items() if v is not None}
    path.write_text(yaml.safe_dump(content))
    return path


def observation(views, state=None, instruction="open the drawer"):
    images = [np.random.default_rng(view).integers(0, 256, (120, 160, 3), np.uint8) for view in range(views)]
    further = {f"camera{number}": View(5, image) for number, image in enumerate(images[1:], start=1)}
    return Observation(5, images[0], instruction, np.eye(4), further=further, state=state)


@pytest.mark.parametrize("name", ["libero_0", "libero_1"])
def test_upright_images_and_a_state_give_the_reference_s_actions(case_of, name):
    """LIBERO returns images upside down, and the reference turns them: an upright image is mirrored."""
    case = case_of(name)
    config = read_policy("openvla-oft-libero").openvla
    bounds = [case.statistics.bounds(quantity, config.normalisation) for quantity in ("action", "proprio")]
    metadata = PolicyMetadata(
        "test", "", "", "", "float", 32, 32, 512, 512, 1, 1, "cpu", 0.05, 8, needs=PolicyNeeds(2, "tool", 8)
    )
    policy = OpenVlaPolicy(config, None, case.network, Recorded(case.inputs.input_ids), *bounds, metadata)
    upright = [np.ascontiguousarray(picture(view)[::-1]) for view in case.about["images"]]
    seen = Observation(9, upright[0], "x", np.eye(4), further={"wrist": View(9, upright[1])}, state=case.array("state"))
    actions = case.array("actions")
    close(policy.plan(seen).actions, reached_changes(actions), 2e-5)
    within = np.abs(actions) <= 1
    close(controller_inputs(policy.plan(seen).actions)[within], actions[within], 2e-5)


@pytest.mark.parametrize(
    ("run", "policy", "key", "needs", "shape"),
    [
        ("libero_l1", "openvla-oft-libero", LIBERO, PolicyNeeds(2, "tool", 8), (8, 7)),
        (
            "aloha_film",
            "openvla-oft-aloha",
            "",
            PolicyNeeds(3, "joints", 14, ActionSpace("joint_positions", 14, (6, 13))),
            (25, 14),
        ),
        ("discrete", "openvla-oft-bridge", "", PolicyNeeds(), (5, 7)),
        ("openvla", "openvla-bridge", "bridge_orig", PolicyNeeds(), (1, 7)),
        ("openvla", "openvla-libero", "bridge_orig", PolicyNeeds(), (1, 7)),
    ],
)
def test_shipped_policies_run_the_published_kinds(run_of, run, policy, key, needs, shape):
    loaded = load(run_of(run), policy, key)
    assert loaded.metadata.needs == needs
    assert (loaded.metadata.horizon, loaded.metadata.visual_tokens) == (shape[0], 256 * needs.cameras)
    seen = observation(needs.cameras, np.zeros(needs.state_size) if needs.state_size else None)
    chunk = loaded.plan(seen)
    assert chunk.actions.shape == shape and np.isfinite(chunk.actions).all() and chunk.space == needs.actions
    np.testing.assert_array_equal(loaded.plan(seen).actions, chunk.actions)
    assert set(chunk.further_selections) == set(seen.further)


def test_diffusion_is_seeded_by_the_stamp(run_of, tmp_path):
    policy = load(run_of("aloha_diffusion"), policy_file(tmp_path / "p.yaml", "openvla-oft-aloha", denoising_steps=2))
    seen = observation(3, np.zeros(14))
    first = policy.plan(seen).actions
    np.testing.assert_array_equal(policy.plan(seen).actions, first)
    later = Observation(6, seen.image, seen.instruction, np.eye(4), further=seen.further, state=seen.state)
    assert np.abs(policy.plan(later).actions - first).max() > 0.01


def test_a_policy_for_cogact_says_what_an_openvla_needs(run_of):
    with pytest.raises(ConfigurationError, match="whose files do not say how many views.*openvla-oft-libero"):
        load(run_of("libero_l1"), "fp16", LIBERO)


def test_a_policy_for_openvla_refuses_a_cogact(random_run):
    with pytest.raises(ConfigurationError, match="is for OpenVLA, but .* is a run directory of CogACT"):
        load(random_run, "openvla-oft-libero")


@pytest.mark.parametrize("setting", [name for name, field in OpenVlaConfig.model_fields.items() if field.is_required()])
def test_what_no_file_says_must_be_in_the_policy(run_of, tmp_path, setting):
    with pytest.raises(ConfigurationError, match=rf"openvla\.{setting}.*required"):
        load(run_of("libero_l1"), policy_file(tmp_path / "p.yaml", "openvla-oft-libero", **{setting: None}), LIBERO)


@pytest.mark.parametrize(
    ("run", "base", "key", "changes", "sentence"),
    [
        ("libero_l1", "openvla-oft-libero", LIBERO, {"state": "none"}, "proprio_projector--.*say what the numbers"),
        ("discrete", "openvla-oft-bridge", "", {"state": "tool"}, "set openvla.state to none"),
        ("openvla", "openvla-bridge", "bridge_orig", {"chunk": 8}, "plans one action; openvla.views = 1"),
        ("libero_l1", "openvla-oft-libero", "", {}, "data sets; choose one of: libero_"),
        ("libero_l1", "openvla-oft-libero", "bridge", {}, "'bridge' is not in the checkpoint; choose one of"),
        ("aloha_film", "openvla-oft-aloha", "", {"grippers": [6, 14]}, "set openvla.grippers"),
        ("aloha_film", "openvla-oft-aloha", "", {"actions": "tool_deltas"}, "a change of the tool pose has 6"),
        ("libero_l1", "openvla-oft-libero", LIBERO, {"views": 4}, "openvla.views = 4"),
    ],
)
def test_contradictions_end_in_a_sentence(run_of, tmp_path, run, base, key, changes, sentence):
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        load(run_of(run), policy_file(tmp_path / "p.yaml", base, **changes), key)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rate_hz", 5.0), ("rotation", "euler_difference"), ("frame", "tool")],
)
def test_inputs_of_libero_s_controller_need_its_convention(run_of, name, value):
    convention = AT_20_HZ.model_copy(update={name: value})
    with pytest.raises(ConfigurationError, match=f"become motions with action.{name} = .* has {value}"):
        load(run_of("libero_l1"), "openvla-oft-libero", LIBERO, action=convention)


@pytest.mark.parametrize(
    ("pruning", "sentence"),
    [
        ({"method": "vla_cache"}, "pruning.method = vla_cache is made for one view"),
        ({"method": "efficientvla"}, "with OpenVLA use sqap, fastv or random"),
        ({"method": "sqap", "prune_before_layer": 3}, "the language model has 3 layers"),
    ],
)
def test_pruning_that_does_not_fit_is_refused(run_of, tmp_path, pruning, sentence):
    path = policy_file(tmp_path / "p.yaml", "openvla-oft-libero")
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "pruning": pruning}))
    with pytest.raises(ConfigurationError, match=sentence):
        load(run_of("libero_l1"), path, LIBERO)


def test_the_shipped_pruned_policy_keeps_154_tokens_of_each_view(run_of):
    policy = load(run_of("libero_l1"), "openvla-oft-libero-sqap", LIBERO)
    assert (policy.metadata.kept_tokens, policy.metadata.visual_tokens) == (308, 512)
    chunk = policy.plan(observation(2, np.zeros(8)))
    assert len(chunk.selection.indices) == 154 and np.isfinite(chunk.actions).all()


def test_statistics_without_the_named_bounds_are_refused(run_of, tmp_path):
    run = shutil.copytree(run_of("aloha_film"), tmp_path / "run")
    content = json.loads((run / "dataset_statistics.json").read_text())
    del content[ALOHA]["action"]["max"]
    (run / "dataset_statistics.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="expected number lists 'min' and 'max' for normalisation = bounds"):
        load(run, "openvla-oft-aloha")


def test_statistics_of_another_robot_are_refused(run_of, tmp_path):
    run = shutil.copytree(run_of("libero_l1"), tmp_path / "run")
    other = json.loads((run_of("aloha_film") / "dataset_statistics.json").read_text())
    (run / "dataset_statistics.json").write_text(json.dumps(other))
    with pytest.raises(ConfigurationError, match="plans 7 numbers per action, the statistics have 14"):
        load(run, policy_file(tmp_path / "p.yaml", "openvla-oft-libero", actions="joint_positions", grippers=[6]))


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (observation(1, np.zeros(8)), "1 camera images, expected 2"),
        (observation(2), "the state has none numbers, expected 8"),
        (observation(2, np.zeros(7)), "the state has 7 numbers, expected 8"),
        (observation(2, np.full(8, np.nan)), "the state is not finite"),
        (observation(2, np.zeros(8), instruction=" "), "the instruction is empty"),
    ],
)
def test_an_observation_that_does_not_fit_gives_no_plan(run_of, seen, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(run_of("libero_l1"), "openvla-oft-libero", LIBERO).plan(seen)


def test_committed_actions_are_refused(run_of):
    policy = load(run_of("discrete"), "openvla-oft-bridge")
    with pytest.raises(ValueError, match="set command.blending to another value"):
        policy.plan(observation(1), CommittedActions(np.zeros((3, 7)), 1))


def test_weights_that_are_not_finite_give_no_plan(run_of):
    policy = load(run_of("libero_l1"), "openvla-oft-libero", LIBERO)
    with torch.no_grad():
        policy._model.head.fc2.bias[0] = torch.nan
    with pytest.raises(ValueError, match="the head's actions are not finite"):
        policy.plan(observation(2, np.zeros(8)))


def test_a_prompt_ends_in_the_blank_once(run_of):
    tokenizer = load_tokenizer(run_of("libero_l1"))
    ids = token_ids(tokenizer, "Open the drawer")
    assert ids[0, -1] == BLANK_ID and ids[0, -2] != BLANK_ID
    # CogACT's prompt is the same but for its cognition token.
    assert torch.equal(tokenizer.encode("open the drawer")[:, :-1], ids)
    blank = Recorded(torch.tensor([[1, 5, BLANK_ID]]))
    assert token_ids(blank, "x").tolist() == [[1, 5, BLANK_ID]]
