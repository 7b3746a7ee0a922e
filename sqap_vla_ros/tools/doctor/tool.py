"""Is the tool in the image and in the workspace, and does it move as planned?"""

import numpy as np
from scipy.spatial.transform import Rotation

from sqap_vla_ros.config.robot import ActionConvention, Frames
from sqap_vla_ros.perception.conventions import integrate
from sqap_vla_ros.perception.transforms import Array
from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level

COMPARED_S = 0.5  # part of a chunk that is compared: about what is executed before the next one
_MOVED_M = 0.005  # smallest motion in that time; less is noise
_FEW_CHUNKS = 5
_AGREE = 0.5  # direction cosine
_TURNED_DEG = 45.0


def check_tool(evidence: Evidence, ring_level: Level) -> list[Finding]:
    """Check that images can be planned on, and that the tool is in the image and in the workspace.

    Args:
        evidence: The messages received.
        ring_level: Level of a finding that prevents the ring around the tool.
    """
    findings = _planning(evidence)
    if not evidence.planned:
        return findings
    seen = 1 - evidence.no_ring.total / evidence.planned
    newest = evidence.observations[-1]
    what = f"in {seen:.0%} of {evidence.planned} images"
    if newest.tool_px is not None:
        u, v = newest.tool_px
        what += f"; in the newest at pixel ({u:.0f}, {v:.0f}): see the picture"
    if evidence.no_ring.total:
        what += f"; without it: {next(iter(evidence.no_ring.most_common()))}"
        level = ring_level if seen < 0.1 else Level.WARNING
        advice = "the picture shows the projection: turn the camera, or correct its calibration, its TF or frames.tool"
        findings.append(Finding(level, "tool in image", what, advice))
    else:
        findings.append(Finding(Level.OK, "tool in image", what))
    return [*findings, _workspace(evidence)]


def _planning(evidence: Evidence) -> list[Finding]:
    rejected, planned = evidence.rejections, evidence.planned
    total = rejected.total + planned
    if not total:
        return []
    what = f"{planned} of {total} images could be planned on"
    if not rejected.total:
        return [Finding(Level.OK, "observations", what)]
    level = Level.PROBLEM if planned < 0.5 * total else Level.WARNING
    # At either end of a recording an image may lack its transforms.
    level = Level.OK if planned >= 0.95 * total else level
    what += f"; the others: {next(iter(rejected.most_common()))}"
    return [Finding(level, "observations", what, "" if level == Level.OK else "see the findings about TF tool")]


def _workspace(evidence: Evidence) -> Finding:
    limits = evidence.configuration.limits
    positions = np.array([position for _, position in evidence.tool_path])
    outside = ((positions < limits.workspace_min) | (positions > limits.workspace_max)).any(axis=1)
    low, high = (
        ", ".join(f"{value:.3f}" for value in corner) for corner in (positions.min(axis=0), positions.max(axis=0))
    )
    what = f"between ({low}) and ({high}) m in '{evidence.configuration.frames.base}'"
    if not outside.any():
        return Finding(Level.OK, "workspace", f"the tool is {what}, inside limits.workspace")
    what = f"the tool is {what}: {outside.mean():.0%} of the time outside limits.workspace"
    advice = "targets are moved into the box: correct limits.workspace_min and _max, or frames.base and .tool"
    return Finding(Level.WARNING, "workspace", what, advice)


def check_motion(evidence: Evidence) -> list[Finding]:
    """Check that the tool moved as recorded chunks planned: other directions reveal a wrong convention or frame."""
    if not evidence.motions or len(evidence.tool_path) < 2:
        return []
    frames, action = evidence.configuration.frames, evidence.configuration.action
    planned, done = _displacements(evidence, action, frames)
    about = "motion"
    if len(planned) < _FEW_CHUNKS:
        what = f"{len(evidence.motions)} recorded chunks; too few are followed by a motion of the tool"
        return [Finding(Level.OK, about, what)]
    lengths = np.linalg.norm(planned, axis=1) * np.linalg.norm(done, axis=1)
    cosine = float((planned * done).sum() / lengths.sum())
    ratio = float(np.linalg.norm(done, axis=1).sum() / np.linalg.norm(planned, axis=1).sum())
    what = (
        f"in {COMPARED_S:g} s after each of {len(planned)} recorded chunks the tool moved {ratio:.0%} as far as "
        f"planned, at a direction cosine of {cosine:.2f}"
    )
    if cosine > _AGREE:
        return [Finding(Level.OK, about, what)]
    successive = np.linalg.norm(planned[1:], axis=1) * np.linalg.norm(planned[:-1], axis=1)
    if (planned[1:] * planned[:-1]).sum() < _AGREE * successive.sum():
        what += "; but successive chunks point in different directions, so this comparison says nothing"
        return [
            Finding(
                Level.WARNING, about, what, "the weights are untrained, or the images differ from the training data"
            )
        ]
    turn, _ = Rotation.align_vectors(done, planned)
    angle_deg = float(np.degrees(turn.magnitude()))
    turned = float((turn.apply(planned) * done).sum() / lengths.sum())
    if turned > 0.7 and angle_deg > _TURNED_DEG:
        axis = ", ".join(f"{value:.1f}" for value in turn.as_rotvec() / turn.magnitude())
        what += f"; turned by {angle_deg:.0f}° about ({axis}) they agree ({turned:.2f})"
        advice = "frames are confused: check frames.base, frames.tool_policy_rpy and action.frame"
        return [Finding(Level.PROBLEM, about, what, advice)]
    advice = "if the arm was driven by these chunks, check action, frames.base and frames.tool_policy_*"
    return [Finding(Level.WARNING, about, what, advice)]


def _displacements(evidence: Evidence, convention: ActionConvention, frames: Frames) -> tuple[Array, Array]:
    """Planned and real displacement of each chunk after which the tool moved, float64 (chunks, 3), metres."""
    stamps_s = np.array([stamp_ns for stamp_ns, _ in evidence.tool_path]) * 1e-9
    positions = np.array([position for _, position in evidence.tool_path])
    planned, done = [], []
    for motion in evidence.motions:
        steps = min(len(motion.actions), max(1, round(COMPARED_S / motion.time_step_s)))
        start_s = motion.stamp_ns * 1e-9
        end_s = start_s + steps * motion.time_step_s
        if not stamps_s[0] <= start_s < end_s <= stamps_s[-1]:
            continue
        place = np.array([[np.interp(at_s, stamps_s, axis) for axis in positions.T] for at_s in (start_s, end_s)])
        target = integrate(motion.actions[:steps], motion.T_base_tool, convention, frames)[-1]
        if np.linalg.norm(place[1] - place[0]) > _MOVED_M:
            planned.append(target[:3, 3] - motion.T_base_tool[:3, 3])
            done.append(place[1] - place[0])
    return np.array(planned).reshape(-1, 3), np.array(done).reshape(-1, 3)
