"""Recordings as training data: export."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from sqap_vla_ros.cli.console import print_line, progress_bar
from sqap_vla_ros.cli.directories import robot_model_file, what_stays
from sqap_vla_ros.config.files import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Export:
    """Write recorded bags as a LeRobot data set.

    Each goal of ~/execute, or each instruction, becomes an episode. A row holds what the node would have planned on:
    the image (H.264), the state, the action that leads to the next row under the robot file's convention, the task; and
    the image's stamp, the tool's and the camera's pose, so that `sqap-vla replay DATASET` plans the same again. Reads
    and writes version 3.0. A run that was stopped goes on when the same command is given again; with further bags, it
    adds their episodes.

    Example:
        sqap-vla export my_bags --to lerobot my_data --robot franka
    """

    bags: tyro.conf.Positional[tuple[Path, ...]]
    """rosbag2 directories, bare .mcap or .db3 files, or folders of them."""
    to: tuple[str, Path]
    """Format, which is lerobot, and directory of the data set."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one."""
    rate: int = 0
    """Rows per second [Hz]; 0: the action rate of the robot file."""
    quality: int = 18
    """Constant rate factor of the video, from 0 (as good as it gets) to 51 (small)."""
    instruction: str = ""
    """The task, in plain words; default: those of the bag."""
    image_topic: str = ""
    """Camera image topic; default: the one in the robot file, or the only one in the bag."""
    camera_info_topic: str = ""
    """Topic of the camera's calibration; default: the one next to the images."""
    tf_namespace: str = ""
    """Namespace of the transforms, as /left for /left/tf; default: /tf, or the namespace of the images."""
    extrinsic: Path | None = None
    """YAML file with parent, child, xyz [m], and rpy [rad] or quaternion: the camera's pose, for bags without it."""
    urdf: Path | None = None
    """URDF of the arm: for bags with joint states and without transforms, in place of a recorded description."""

    def run(self, console: "Console") -> None:
        """Export, with progress, and print what was made."""
        from sqap_vla_ros.bags.observations import read_extrinsic
        from sqap_vla_ros.config.robot import load_configuration
        from sqap_vla_ros.config.settings import validate
        from sqap_vla_ros.tools.export.export import ExportSettings, export
        from sqap_vla_ros.tools.replay.jobs import find_bags

        kind, out = self.to
        if kind != "lerobot":
            raise ConfigurationError(f"--to {kind}: there is one format, lerobot")
        overrides = {"command.robot_model": robot_model_file(self.urdf)}
        configuration = load_configuration(self.robot, **{name: value for name, value in overrides.items() if value})
        settings = validate(
            ExportSettings,
            {
                "robot": configuration.robot_name,
                "rate_hz": self.rate or _whole(configuration.action.rate_hz),
                "quality": self.quality,
                "instruction": self.instruction.strip(),
                "image_topic": self.image_topic,
                "camera_info_topic": self.camera_info_topic,
                "tf_namespace": self.tf_namespace,
                "extrinsic": read_extrinsic(self.extrinsic) if self.extrinsic else None,
            },
            "sqap-vla export",
        )
        bags = find_bags(self.bags)
        words = f"episodes that are written stay in {out}; the same command goes on from there"
        with what_stays(console, lambda: words), progress_bar(console) as progress:
            task = progress.add_task("exporting", total=None)

            def show(bag: Path, seconds: float, total: float) -> None:
                name = f"seconds of {bag.name}"
                progress.update(task, description=name, completed=round(seconds, 1), total=round(total, 1))

            result = export(bags, out, configuration, settings, show)
        for note in result.notes:
            print_line(console, f"note: {note}")
        seconds = sum(episode.length for episode in result.episodes) / settings.rate_hz
        print_line(
            console,
            f"{out}: {len(result.episodes)} episodes, {seconds:.1f} s at {settings.rate_hz} Hz, {result.added} of them "
            "written now",
        )
        print_line(console, f"next: sqap-vla replay {out}")


def _whole(rate_hz: float) -> int:
    if rate_hz != round(rate_hz):
        raise ConfigurationError(
            f"the robot file's action.rate_hz is {rate_hz:g}, and a data set has a whole number of rows per second; "
            "give one with --rate"
        )
    return round(rate_hz)
