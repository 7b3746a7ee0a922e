"""The published evaluation of SIMPLER, episode by episode, as data.

The scenes, positions and limits are those of the scripts that come with SIMPLER, in the variants that its own metrics
average: those with moved cameras, which the scripts run and the metrics leave out, are not here. So the number of
episodes is 300 and 675 (pick a coke can), 240 and 480 (move near), 216 and 378 (drawers), 108 and 189 (place the apple
in the drawer) in visual matching and variant aggregation; and 24 for each task of the WidowX.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.simulation.simpler.episode import TASKS, Episode, Place, Variant

_MATCHED_COLOURS = (
    None,
    "recolor_tabletop_visual_matching_1",
    "recolor_tabletop_visual_matching_2",
    "recolor_cabinet_visual_matching_1",
)
_TABLE = "google_pick_coke_can_1_v4"
_OTHER_TABLES = (
    "Baked_sc1_staging_objaverse_cabinet1_h870",
    "Baked_sc1_staging_objaverse_cabinet2_h870",
    "google_pick_coke_can_1_v4_alt_background",
    "google_pick_coke_can_1_v4_alt_background_2",
)
_LIGHTS_AT_TABLE: tuple[Mapping[str, Any], ...] = (
    {"slightly_darker_lighting": True},
    {"slightly_brighter_lighting": True},
)
_ROOM = "frl_apartment_stage_simple"
_OTHER_ROOMS = ("modern_bedroom_no_roof", "modern_office_no_roof")
_CHANGES_IN_ROOM: tuple[Mapping[str, Any], ...] = (
    {"light_mode": "brighter"},
    {"light_mode": "darker"},
    {"station_name": "mk_station2"},
    {"station_name": "mk_station3"},
)
# Photographed from nine places: name of the background -> robot x, y [m] and yaw [rad].
_PHOTOGRAPHED = {
    "a0": (0.644, -0.179, -0.03),
    "a1": (0.765, -0.182, -0.02),
    "a2": (0.889, -0.203, -0.06),
    "b0": (0.652, 0.009, 0.0),
    "b1": (0.752, 0.009, 0.0),
    "b2": (0.851, 0.035, 0.0),
    "c0": (0.665, 0.224, 0.0),
    "c1": (0.765, 0.222, -0.025),
    "c2": (0.865, 0.222, -0.025),
}
_DRAWERS = tuple(
    f"{verb}{drawer}DrawerCustomInScene-v0" for verb in ("Open", "Close") for drawer in ("Top", "Middle", "Bottom")
)
_APPLE = "PlaceIntoClosedTopDrawerCustomInScene-v0"
# Ray tracing: policies read depth from shadows when they open drawers.
_RAYS = {"shader_dir": "rt"}
_MATCHED_STATION = {
    **_RAYS,
    "station_name": "mk_station_recolor",
    "light_mode": "simple",
    "disable_bad_material": True,
}


def episodes(robot: str) -> tuple[Episode, ...]:
    """The whole grid of a robot, always in the same order.

    Args:
        robot: A key of `ROBOTS`.
    """
    scenes = _widowx() if robot == "widowx_bridge" else _google_robot()
    return tuple(
        Episode(number, variant, *place)
        for number, (variant, place) in enumerate((variant, place) for variant, places in scenes for place in places)
    )


def choose(robot: str, tasks: Collection[str], settings: Collection[str], count: int) -> tuple[Episode, ...]:
    """Some episodes of the grid, in its order.

    Args:
        robot: A key of `ROBOTS`.
        tasks: Of `TASKS`; empty: all of the robot.
        settings: Visual matching, variant aggregation, or both.
        count: So many of each task and setting, spread over its scenes, where a larger number includes a smaller one's;
            0: all.

    Raises:
        ConfigurationError: The robot has no such task, nothing is left, or the number is negative.
    """
    if count < 0:
        raise ConfigurationError(f"episodes = {count}: expected 0 (all) or more")
    unknown = [task for task in tasks if task not in TASKS[robot]]
    if unknown:
        raise ConfigurationError(f"tasks = {', '.join(unknown)}: those of {robot} are {', '.join(TASKS[robot])}")
    columns: dict[tuple[str, str], list[Episode]] = {}
    for episode in episodes(robot):
        variant = episode.variant
        if variant.task in (tasks or TASKS[robot]) and variant.setting in settings:
            columns.setdefault((variant.task, variant.setting), []).append(episode)
    if not columns:
        raise ConfigurationError(f"settings = {', '.join(settings)}: {robot} has visual_matching only")
    chosen = []
    for column in columns.values():
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(column))
        chosen += [column[index] for index in sorted(order[: count or None])]
    return tuple(chosen)


def _google_robot() -> Iterator[tuple[Variant, Iterable[Place]]]:
    yield from _pick_coke_can()
    yield from _move_near()
    yield from _drawer()
    yield from _place_apple()


def _pick_coke_can() -> Iterator[tuple[Variant, Iterable[Place]]]:
    plain = "GraspSingleOpenedCokeCanInScene-v0"
    among_others = "GraspSingleOpenedCokeCanDistractorInScene-v0"
    places = [((0.35, 0.20), 0.0, at) for at in _square((-0.35, -0.12), (-0.02, 0.42), 5)]
    for pose in ("lr_switch", "upright", "laid_vertically"):
        for colours in _MATCHED_COLOURS:
            options = {pose: True, "urdf_version": colours}
            overlay = "google_coke_can_real_eval_1.png"
            yield (
                Variant("pick_coke_can", "visual_matching", plain, _TABLE, 80, overlay=overlay, options=options),
                places,
            )
        looks: list[tuple[str, str, Mapping[str, Any]]] = [
            (plain, _TABLE, {}),
            *((plain, table, {}) for table in _OTHER_TABLES),
            (among_others, _TABLE, {}),
            (among_others, _TABLE, {"distractor_config": "more"}),
            *((plain, _TABLE, light) for light in _LIGHTS_AT_TABLE),
        ]
        for environment, table, look in looks:
            options = {pose: True, **look}
            yield Variant("pick_coke_can", "variant_aggregation", environment, table, 80, options=options), places


def _move_near() -> Iterator[tuple[Variant, Iterable[Place]]]:
    places: list[Place] = [((0.35, 0.21), -0.09, {"episode_id": index}) for index in range(60)]
    for colours in _MATCHED_COLOURS:
        yield (
            Variant(
                "move_near",
                "visual_matching",
                "MoveNearGoogleBakedTexInScene-v0",
                _TABLE,
                80,
                overlay="google_move_near_real_eval_1.png",
                options={"urdf_version": colours},
            ),
            places,
        )
    looks: list[tuple[str, Mapping[str, Any]]] = [
        (_TABLE, {}),
        (_TABLE, {"no_distractor": True}),
        *((table, {}) for table in _OTHER_TABLES),
        *((_TABLE, light) for light in _LIGHTS_AT_TABLE),
    ]
    for table, look in looks:
        environment = "MoveNearGoogleInScene-v0"
        yield Variant("move_near", "variant_aggregation", environment, table, 80, options=look), places


def _drawer() -> Iterator[tuple[Variant, Iterable[Place]]]:
    nothing = {"init_xy": (0.0, 0.0)}
    for environment in _DRAWERS:
        yield from _matched_station("drawer", environment, 113, _PHOTOGRAPHED, [nothing])
        places: list[Place] = [
            ((x, y), 0.0, nothing) for x, y in itertools.product(_spread(0.65, 0.85, 3), _spread(-0.2, 0.2, 3))
        ]
        yield from _varied_rooms("drawer", environment, 113, places)


def _place_apple() -> Iterator[tuple[Variant, Iterable[Place]]]:
    on_top = _square((-0.08, -0.02), (-0.02, 0.08), 3)
    before = {place: _PHOTOGRAPHED[place] for place in ("a0", "b0", "c0")}
    yield from _matched_station("place_apple", _APPLE, 200, before, on_top, model_ids="baked_apple_v2")
    places: list[Place] = [((0.65, y), 0.0, at) for y, at in itertools.product(_spread(-0.2, 0.2, 3), on_top)]
    yield from _varied_rooms("place_apple", _APPLE, 200, places, model_ids="apple")


def _matched_station(
    task: str,
    environment: str,
    max_steps: int,
    photographed: Mapping[str, tuple[float, float, float]],
    placings: Iterable[Mapping[str, Any]],
    **options: Any,
) -> Iterator[tuple[Variant, Iterable[Place]]]:
    """The cabinet before photographs of the real one."""
    for colours, (photograph, (x, y, yaw)) in itertools.product(_MATCHED_COLOURS, photographed.items()):
        yield (
            Variant(
                task,
                "visual_matching",
                environment,
                "dummy_drawer",
                max_steps,
                overlay=f"open_drawer_{photograph}.png",
                options={**_MATCHED_STATION, "urdf_version": colours, **options},
            ),
            [((x, y), yaw, placing) for placing in placings],
        )


def _varied_rooms(
    task: str, environment: str, max_steps: int, places: Iterable[Place], **options: Any
) -> Iterator[tuple[Variant, Iterable[Place]]]:
    """The cabinet in rooms, lights and colours."""
    looks: list[tuple[str, Mapping[str, Any]]] = [
        (_ROOM, {}),
        *((room, {}) for room in _OTHER_ROOMS),
        *((_ROOM, change) for change in _CHANGES_IN_ROOM),
    ]
    for room, look in looks:
        built = {**_RAYS, **look, **options}
        yield Variant(task, "variant_aggregation", environment, room, max_steps, options=built), places


def _widowx() -> Iterator[tuple[Variant, Iterable[Place]]]:
    table = ("bridge_table_1_v1", "widowx", "bridge_real_eval_1.png", (0.147, 0.028))
    sink = ("bridge_table_1_v2", "widowx_sink_camera_setup", "bridge_sink.png", (0.127, 0.06))
    for task, environment, (scene, model, overlay, robot_xy) in (
        ("put_spoon_on_towel", "PutSpoonOnTableClothInScene-v0", table),
        ("put_carrot_on_plate", "PutCarrotOnPlateInScene-v0", table),
        ("stack_cubes", "StackGreenCubeOnYellowCubeBakedTexInScene-v0", table),
        ("put_eggplant_in_basket", "PutEggplantInBasketScene-v0", sink),
    ):
        places: list[Place] = [(robot_xy, 0.0, {"episode_id": index}) for index in range(24)]
        yield Variant(task, "visual_matching", environment, scene, 120, model, overlay), places


def _square(x: tuple[float, float], y: tuple[float, float], count: int) -> list[Mapping[str, Any]]:
    """Placings of an object on a square grid."""
    return [{"init_xy": at} for at in itertools.product(_spread(*x, count), _spread(*y, count))]


def _spread(low: float, high: float, count: int) -> list[float]:
    return [float(value) for value in np.linspace(low, high, count)]
