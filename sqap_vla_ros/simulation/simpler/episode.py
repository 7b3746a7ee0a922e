"""An episode in SIMPLER: which scene, built how, and where everything begins."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

Setting = Literal["visual_matching", "variant_aggregation"]


@dataclass(frozen=True)
class SimplerRobot:
    """How a robot is simulated and seen.

    Attributes:
        camera: Name of the camera whose image the policy sees.
        control_hz: Control steps per second.
        simulation_hz: Physics steps per second.
    """

    camera: str
    control_hz: int
    simulation_hz: int


# By the name of the set-up, as in `convention.SETUPS`.
ROBOTS: Mapping[str, SimplerRobot] = MappingProxyType(
    {
        "google_robot": SimplerRobot("overhead_camera", control_hz=3, simulation_hz=513),
        "widowx_bridge": SimplerRobot("3rd_view_camera", control_hz=5, simulation_hz=500),
    }
)

# Columns of the published tables.
TASKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "google_robot": ("pick_coke_can", "move_near", "drawer", "place_apple"),
        "widowx_bridge": ("put_spoon_on_towel", "put_carrot_on_plate", "stack_cubes", "put_eggplant_in_basket"),
    }
)


@dataclass(frozen=True)
class Variant:
    """A simulated scene.

    Attributes:
        task: Column of the table for its episodes.
        setting: Real backgrounds and matched colours, or varied looks.
        environment: Gymnasium id.
        scene: Name of the scene.
        max_steps: Control steps of an episode.
        model: SIMPLER's robot model.
        overlay: File of the real background; empty: none.
        options: Further options of the environment.
    """

    task: str
    setting: Setting
    environment: str
    scene: str
    max_steps: int
    model: str = "google_robot_static"
    overlay: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Episode:
    """One run of a scene.

    Attributes:
        number: Index in the whole grid of the robot, which seeds the noise of the plans.
        variant: The scene.
        robot_xy: Where the robot's base stands [m].
        robot_yaw: Turned by, beyond facing the scene [rad].
        placing: Position of the object (`init_xy` [m]), or a prepared arrangement (`episode_id`).
    """

    number: int
    variant: Variant
    robot_xy: tuple[float, float]
    robot_yaw: float
    placing: Mapping[str, Any]

    @property
    def name(self) -> str:
        """A name that identifies the episode, in one line."""
        variant = self.variant
        x, y = self.robot_xy
        options = (f"{name}={value}" for name, value in variant.options.items())
        placing = (f"{name}={value}" for name, value in self.placing.items())
        robot = f"robot=({x:g}, {y:g}, {self.robot_yaw:g})"
        return " ".join((variant.environment, variant.scene, variant.overlay or "rendered", *options, robot, *placing))

    @property
    def reset_options(self) -> dict[str, Any]:
        """The options of the environment's `reset`."""
        # Facing the scene is half a turn about z; (w, x, y, z).
        half = (math.pi + self.robot_yaw) / 2
        robot = {"init_xy": np.array(self.robot_xy), "init_rot_quat": [math.cos(half), 0.0, 0.0, math.sin(half)]}
        objects = {name: np.array(value) if name == "init_xy" else value for name, value in self.placing.items()}
        return {"robot_init_options": robot, "obj_init_options": objects}


Place = tuple[tuple[float, float], float, Mapping[str, Any]]
"""Robot x and y [m], its yaw [rad], and the object's placing."""
