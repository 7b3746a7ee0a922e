"""The observation of the first plan has what the policy needs."""

from sqap_vla_ros.core.policy import PolicyNeeds
from sqap_vla_ros.ros.policy_child import warm_up


def test_a_policy_of_one_camera_is_warmed_up_with_one():
    observation = warm_up(PolicyNeeds())
    assert len(observation.views) == 1 and observation.state is None


def test_a_policy_is_warmed_up_with_its_views_and_its_state():
    observation = warm_up(PolicyNeeds(cameras=3, state="joints", state_size=14))
    assert len(observation.views) == 3 and observation.state.shape == (14,)
