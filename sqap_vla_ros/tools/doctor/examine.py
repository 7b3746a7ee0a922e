"""All checks, in the order in which a set-up is built: machine, settings, camera, transforms, tool, policy."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla_ros.bags.further_topics import FurtherTopics, find_further
from sqap_vla_ros.bags.observations import Extrinsic
from sqap_vla_ros.bags.reader import Bag, BagDamage, BagError
from sqap_vla_ros.bags.robot_bag import RobotBag
from sqap_vla_ros.bags.topics import TRANSFORM_TYPE, configured_for, find_topics
from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.policy import ONE_CAMERA, PolicyNeeds
from sqap_vla_ros.tools.doctor.camera import check_camera
from sqap_vla_ros.tools.doctor.controllers import check_controllers
from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level, has_problem, write_findings
from sqap_vla_ros.tools.doctor.images import OTHER_CLOCK_S, check_images
from sqap_vla_ros.tools.doctor.machine import check_gpu, check_python_packages, check_system_packages
from sqap_vla_ros.tools.doctor.picture import write_picture
from sqap_vla_ros.tools.doctor.settings import check_checkpoint, check_convention, check_instruction
from sqap_vla_ros.tools.doctor.several_cameras import check_cameras
from sqap_vla_ros.tools.doctor.speed import check_policies
from sqap_vla_ros.tools.doctor.tool import check_motion, check_tool
from sqap_vla_ros.tools.doctor.topics import check_topics
from sqap_vla_ros.tools.doctor.transforms import check_transforms
from sqap_vla_ros.tools.replay.jobs import make_directory

PICTURE, FINDINGS = "tool.png", "doctor.json"


def read_bag(
    bag: Bag,
    configuration: Configuration,
    image_topic: str,
    camera_info_topic: str,
    tf_namespace: str,
    extrinsic: Extrinsic | None,
    on_progress: Callable[[int], None],
    needs: PolicyNeeds = ONE_CAMERA,
) -> Evidence:
    """Collect the evidence of a bag, as if its messages arrived live.

    Args:
        bag: The recording.
        configuration: The robot's settings; the topics are chosen among those of the bag.
        image_topic: Image topic to read in place of the configured one.
        camera_info_topic: Calibration to read in place of the one in the images' namespace.
        tf_namespace: Namespace of the transforms, if the bag has those of several robots.
        extrinsic: Pose of the camera, if the bag does not have it.
        on_progress: Called with the recording time of each message, nanoseconds.
        needs: Cameras and state that the policy needs.

    Raises:
        BagError: The bag has no images, or several image topics of which none is configured.
    """
    topics = find_topics(bag, configuration, image_topic, camera_info_topic, tf_namespace)
    chosen, further, problem = configured_for(configuration, topics, image_topic), FurtherTopics(), ""
    try:
        further = find_further(bag, chosen, needs)
    except BagError as error:  # a finding, and the first camera is examined all the same
        problem, needs = str(error), ONE_CAMERA
    evidence = Evidence(chosen, needs)
    evidence.further_problem = problem
    evidence.bag_topics = frozenset(bag.topic_types)
    named, found = configuration.topics, evidence.configuration.topics
    evidence.other_topics = {
        name: getattr(named, name) for name in ("image", "camera_info") if getattr(named, name) != getattr(found, name)
    }
    if extrinsic:
        evidence.add_extrinsic(extrinsic.parent, extrinsic.child, extrinsic.T_parent_child)
    joint_states = ""
    if isinstance(bag, RobotBag):
        evidence.poses = bag.poses
        if bag.model and not bag.computes_poses and not configuration.command.moves_tool:
            joint_states = bag.joint_states
            evidence.model.set_model(bag.model)
    try:
        for topic, recorded_ns, message in bag.messages(topics.names | {joint_states} | further.names):
            on_progress(recorded_ns)
            _add_further(evidence, further, topic, recorded_ns, message)
            if topic == topics.image:
                evidence.add_image(message, recorded_ns)
            elif topic == topics.camera_info:
                evidence.add_camera_info(message)
            elif topic == topics.instruction:
                evidence.add_instruction(message.data)
            elif topic == topics.chunk:
                evidence.add_chunk(message)
            elif joint_states and topic == joint_states:
                evidence.model.add_joint_states(message)
            elif bag.topic_types[topic] == TRANSFORM_TYPE:
                evidence.add_transforms(message, topic.endswith("tf_static"), recorded_ns)
            evidence.poll(recorded_ns)
    except BagDamage as error:
        evidence.damage = str(error)
    return evidence


def _add_further(evidence: Evidence, further: FurtherTopics, topic: str, recorded_ns: int, message: Any) -> None:
    """Add what belongs to further cameras or to the state."""
    if topic in further.images:
        evidence.add_further_image(further.images[topic], message, recorded_ns)
    elif topic in further.camera_infos:
        evidence.add_further_camera_info(further.camera_infos[topic], message)
    elif topic == further.joint_states:
        evidence.add_joint_states(message)


def examine(
    evidence: Evidence, policies: Sequence[str], out: Path, source: str, on_progress: Callable[[str], None]
) -> list[Finding]:
    """Judge the evidence, and write the picture and the findings.

    Args:
        evidence: Evidence of a bag, or of a few live seconds.
        policies: Names of policy files; the first is the one that the set-up runs.
        out: Directory for the picture and the JSON file.
        source: Name of what was examined, for the JSON file.
        on_progress: Called with a sentence about the step that begins.

    Raises:
        ConfigurationError: There is no such policy file, or the directory cannot be created.
    """
    make_directory(out)
    configuration = evidence.configuration
    pruning = read_policy(policies[0]).pruning
    radius = pruning.ring_radius if isinstance(pruning, SqapConfig) else None
    ring_level = Level.WARNING if radius is None else Level.PROBLEM
    settings, checkpoint = check_checkpoint(configuration)
    findings = [
        *check_system_packages(),
        *check_python_packages(),
        check_gpu(configuration.device),
        check_instruction(evidence),
        *check_convention(configuration),
        *settings,
        *_arm(evidence),
        *check_topics(evidence),
        *check_controllers(evidence.controllers, configuration),
        *check_images(evidence),
        *check_cameras(evidence, policies[0]),
        *check_camera(evidence, ring_level),
        *check_transforms(evidence, ring_level),
        *check_tool(evidence, ring_level),
        *check_motion(evidence),
    ]
    if evidence.damage:
        findings.append(Finding(Level.WARNING, "bag", evidence.damage, "everything before the damage was examined"))
    if checkpoint is not None and not has_problem(settings):
        age_s = _image_age_s(evidence)
        findings += check_policies(policies, configuration, checkpoint, evidence.observations, age_s, on_progress)
    picture = write_picture(evidence, radius, out / PICTURE)
    described = {"source": source, "robot": configuration.robot_name, "picture": PICTURE if picture else ""}
    write_findings(out / FINDINGS, described, findings)
    return findings


def _arm(evidence: Evidence) -> list[Finding]:
    """Findings about joint states, robot model, and where the arm's poses come from."""
    topics, model, findings = evidence.configuration.topics, evidence.model, []
    if evidence.joint_problem is not None:
        level, advice = Level.PROBLEM, f"see {topics.joint_states}, command.joints"
        if not evidence.joint_problem:
            level, advice = Level.OK, ""
        findings.append(
            Finding(level, "joint states", evidence.joint_problem or "received for all command.joints", advice)
        )
    advice = f"see {topics.robot_description}, command.robot_model"
    if evidence.robot_problem or model.problem():
        findings.append(Finding(Level.PROBLEM, "robot model", evidence.robot_problem or model.problem(), advice))
    elif evidence.robot_problem is not None or model.unusable is not None:
        compared = f", and agrees with TF at {model.compared} moments" if model.compared else ""
        findings.append(Finding(Level.OK, "robot model", f"can be used{compared}"))
    findings += [Finding(Level.WARNING, "robot model", doubt, "correct its <limit>") for doubt in model.doubts]
    if evidence.poses:
        findings.append(Finding(Level.OK, "poses", evidence.poses))
    return findings


def _image_age_s(evidence: Evidence) -> float:
    """Median age of images on arrival; 0 if it is unknown."""
    if not len(evidence.images):
        return 0.0
    age_s = float(np.median(evidence.images.received_ns - evidence.images.stamps_ns)) * 1e-9
    return age_s if abs(age_s) < OTHER_CLOCK_S else 0.0
