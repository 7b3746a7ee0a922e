"""Scripted experts, which decide the next move of a task from the simulator's own knowledge of it.

An expert looks at the state afresh at every step, so that it recovers from wherever a disturbance has left the arm.
Apart from the time that fingers take, its moves are a function of what a camera can see. Positions are those of the
tool (the flange) in the base frame; fingers point along the tool's z axis and open along its y axis.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.perception.transforms import vector_from_rotation
from sqap_vla_ros.simulation.libero import LiberoScene
from sqap_vla_ros.simulation.tasks import Task

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

FINGERTIPS_M = 0.113  # from the flange
_DOWN = np.diag([1.0, -1.0, -1.0])  # R_base_tool with the fingers straight down
_GRASP_STEPS = 12  # at 20 Hz: the fingers travel 40 mm in half a second, and then press
_RELEASE_STEPS = 6
_AT_XY_M, _AT_Z_M = 0.008, 0.010
_SHUT_M, _OPEN_M, _STILL_M_S = 0.0015, 0.0365, 0.004  # of a finger: with nothing between, wide open, at rest
_LOST_M = 0.05  # an object that is so far from where it was grasped has slipped
# Above a place the tool is as high as this many times its distance from the axis: it comes down along a funnel.
_FUNNEL = 3.0


@dataclass(frozen=True)
class Move:
    """The next move of an expert.

    Attributes:
        target: float64 (3,), position that the tool should go to [m].
        gripper: 1 open, 0 closed.
        phase: Index into `demonstrations.PHASES`.
        rotation: float64 (3, 3), R_base_tool that it should turn to.
    """

    target: Vector
    gripper: float
    phase: int
    rotation: Matrix = field(default_factory=lambda: _DOWN)


class Expert(Protocol):
    """A scripted expert for a task."""

    def act(self, T_base_tool: Matrix, scene: LiberoScene) -> Move:
        """The next move, asked once per control step.

        Args:
            T_base_tool: float64 (4, 4), the tool's pose [m].
            scene: The scene.
        """

    def points(self, scene: LiberoScene) -> tuple[Vector, Vector]:
        """Positions of the object to act on and of where it should go, float64 (3,) each [m]."""


@dataclass(frozen=True)
class PickAndPlaceSetup:
    """How to grasp an object, and where to put it.

    Attributes:
        body: MuJoCo body of the object.
        grasp: float64 (3,), from the body to where the fingertips close [m].
        goal: Site or body that the object is brought to.
        offset: float64 (3,), from the goal to where the object's body should be when it is let go [m].
        carry_m: Height of the fingertips on the way [m].
    """

    body: str
    grasp: tuple[float, float, float]
    goal: str
    offset: tuple[float, float, float]
    carry_m: float


class PickAndPlace:
    """Reaches for an object, grasps it, carries it and lets go; begins anew when the object was lost."""

    def __init__(self, setup: PickAndPlaceSetup) -> None:
        self._setup = setup
        self._grasp = np.array(setup.grasp)
        self._closing = 0
        self._opening = 0
        self._held: Vector | None = None  # from the tool to the object, when it was grasped

    def act(self, T_base_tool: Matrix, scene: LiberoScene) -> Move:
        """The next move; see `Expert.act`."""
        tool = T_base_tool[:3, 3]
        body, goal = self.points(scene)
        tips = tool - (0.0, 0.0, FINGERTIPS_M)
        if self._held is not None and np.linalg.norm(body - tool - self._held) > _LOST_M:
            self._held, self._closing = None, 0
        if self._held is None and not self._closing and self._is_grasped(tips, body, scene):
            self._held = body - tool
        if self._opening or scene.success():
            return self._let_go(tool)
        if self._held is None:
            return self._reach(tool, tips, body)
        return self._carry(tool, tips, body, goal)

    def points(self, scene: LiberoScene) -> tuple[Vector, Vector]:
        """The object and its goal; see `Expert.points`."""
        name = self._setup.goal
        is_site = any(scene.model.site(index).name == name for index in range(scene.model.nsite))
        goal = scene.site_position(name) if is_site else scene.body_position(name)
        return scene.body_position(self._setup.body), goal + self._setup.offset

    def _is_grasped(self, tips: Vector, body: Vector, scene: LiberoScene) -> bool:
        """Whether the fingers hold the object already: where they should be, neither open nor shut, and at rest."""
        opening, speed = scene.finger_positions[0], abs(scene.finger_velocities[0])
        is_there = np.linalg.norm(tips - body - self._grasp) < 0.02
        return bool(is_there and _SHUT_M < opening < _OPEN_M and speed < _STILL_M_S)

    def _reach(self, tool: Vector, tips: Vector, body: Vector) -> Move:
        grasp = body + self._grasp
        aside = float(np.linalg.norm(tips[:2] - grasp[:2]))
        is_there = aside < _AT_XY_M and abs(tips[2] - grasp[2]) < _AT_Z_M
        if self._closing or is_there:
            self._closing += 1
            if self._closing > _GRASP_STEPS:
                self._held, self._closing = body - tool, 0
            return Move(tool, 0.0, 1)
        return Move(_above(grasp, aside, 0.10), 1.0, 0)

    def _carry(self, tool: Vector, tips: Vector, body: Vector, goal: Vector) -> Move:
        assert self._held is not None
        place = tool + goal - body  # where the tool is when the object is at its goal
        aside = float(np.linalg.norm(tool[:2] - place[:2]))
        if aside < _AT_XY_M and abs(tool[2] - place[2]) < _AT_Z_M:
            return self._let_go(tool)
        height = self._setup.carry_m + FINGERTIPS_M
        if aside > 0.03 and tool[2] < height - 0.03:  # lift first, and drift along once half of the way is done
            share = np.clip(2 * tool[2] / height - 1, 0, 1) ** 2
            return Move(np.array([*(tool[:2] + share * (place - tool)[:2]), height]), 0.0, 2)
        funnel = max(height - place[2], 0.0)
        target = _above(place, aside, funnel) - (0.0, 0.0, FINGERTIPS_M)
        return Move(target, 0.0, 2)

    def _let_go(self, tool: Vector) -> Move:
        self._opening = (self._opening + 1) % 40
        self._held, self._closing = None, 0
        up = 0.0 if self._opening <= _RELEASE_STEPS else 0.06
        return Move(tool + (0.0, 0.0, up), 1.0, 3)


def _above(tips: Vector, aside: float, most: float) -> Vector:
    """Position of the tool that comes down on a place for the fingertips, from `aside` metres off its axis."""
    height = float(np.clip(_FUNNEL * (aside - 0.5 * _AT_XY_M), 0.0, most))
    return tips + (0.0, 0.0, FINGERTIPS_M + height)


class CloseDrawer:
    """Pushes a drawer shut with closed fingers.

    The drawers of LIBERO's cabinet open along the base's y axis.
    """

    def __init__(self) -> None:
        self._retreats = False

    def act(self, T_base_tool: Matrix, scene: LiberoScene) -> Move:
        """The next move; see `Expert.act`."""
        tool = T_base_tool[:3, 3]
        handle, goal = self.points(scene)
        tips = tool - (0.0, 0.0, FINGERTIPS_M)
        if scene.success() or self._retreats:
            self._retreats = True
            return Move(tool + (0.0, 0.04, 0.06), 1.0, 3)
        push = handle + (0.0, 0.035, -0.005)
        aside = abs(tips[0] - push[0])
        is_before = tips[1] > handle[1] + 0.015
        if is_before and aside < 0.02 and abs(tips[2] - push[2]) < 0.02:
            return Move(np.array([push[0], goal[1] - 0.02, push[2] + FINGERTIPS_M]), 0.0, 2)
        gap = float(np.linalg.norm(tips[:2] - push[:2]))
        return Move(_above(push, gap, 0.08), 0.0, 0)

    def points(self, scene: LiberoScene) -> tuple[Vector, Vector]:
        """The middle of the handle's bar, and where that should be; see `Expert.points`."""
        handle = _handle(scene)
        return handle, handle + (0.0, scene.joint_position(_DRAWER), 0.0)


class OpenDrawer:
    """Turns the fingers towards the drawer, takes its handle from above and below, and pulls."""

    def __init__(self) -> None:
        self._closing = 0
        self._retreats = False

    def act(self, T_base_tool: Matrix, scene: LiberoScene) -> Move:
        """The next move; see `Expert.act`."""
        tool, approach = T_base_tool[:3, 3], _TO_THE_DRAWER[:, 2]
        handle, goal = self.points(scene)
        if scene.success() or self._retreats:
            self._retreats = True
            return Move(tool - 0.06 * approach, 1.0, 3, _TO_THE_DRAWER)
        grasp = handle + _BAR
        tips = tool + FINGERTIPS_M * T_base_tool[:3, 2]
        turn = float(np.linalg.norm(vector_from_rotation(_TO_THE_DRAWER @ T_base_tool[:3, :3].T)))
        way = grasp - tips
        left = float(way @ approach)
        aside = float(np.linalg.norm(way - left * approach)) + _TURN_M * turn
        if aside > 0.03 or left > 0.03:
            self._closing = 0
        if self._closing or (aside < _AT_XY_M + 0.1 * _TURN_M and abs(left) < _AT_Z_M):
            self._closing += 1
            if self._closing <= _GRASP_STEPS:
                return Move(tool, 0.0, 1, _TO_THE_DRAWER)
            return Move(tool + goal - handle, 0.0, 2, _TO_THE_DRAWER)
        stand_off = float(np.clip(_FUNNEL * (aside - 0.5 * _AT_XY_M), 0.0, 0.12))
        return Move(grasp - (FINGERTIPS_M + stand_off) * approach, 1.0, 0, _TO_THE_DRAWER)

    def points(self, scene: LiberoScene) -> tuple[Vector, Vector]:
        """The middle of the handle's bar, and where that should be; see `Expert.points`."""
        handle = _handle(scene)
        return handle, handle + (0.0, scene.joint_position(_DRAWER) + 0.15, 0.0)


def _handle(scene: LiberoScene) -> Vector:
    """Position of the handle's bar, float64 (3,) [m]."""
    place: Vector = scene.body_position(_CABINET_TOP) + _HANDLE
    return place


_CABINET_TOP = "wooden_cabinet_1_cabinet_top"
_DRAWER = "wooden_cabinet_1_top_level"
_HANDLE = np.array([0.004, 0.092, 0.184])  # from the drawer's body to its handle's bar, the cabinet turned by half
_BAR = np.array([0.0, -0.008, 0.0])
_TO_THE_DRAWER = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # R_base_tool, fingers above and below the bar
_TURN_M = 0.1  # so many metres aside is a radian
_BOWL_RIM = (0.0, 0.048, 0.022)  # from the bowl's body to its rim on the side of +y

_SETUPS = {
    "pick_can": PickAndPlaceSetup(
        "alphabet_soup_1_main", (0.0, 0.0, 0.005), "basket_1_contain_region", (0.0, 0.0, 0.10), 0.25
    ),
    "move_near": PickAndPlaceSetup(
        "chocolate_pudding_1_main", (0.0, 0.0, -0.014), "living_room_table_plate_right_region", (0.0, 0.0, 0.045), 0.12
    ),
    "place_in_drawer": PickAndPlaceSetup(
        "akita_black_bowl_1_main", _BOWL_RIM, "wooden_cabinet_1_top_region", (0.0, 0.005, 0.04), 0.29
    ),
    "bowl_on_plate": PickAndPlaceSetup("akita_black_bowl_1_main", _BOWL_RIM, "plate_1_main", (0.0, 0.0, 0.03), 0.14),
}


def expert_for(task: Task) -> Expert:
    """A fresh expert for one episode of a task."""
    if task.name in _SETUPS:
        return PickAndPlace(_SETUPS[task.name])
    return OpenDrawer() if task.name == "open_drawer" else CloseDrawer()
