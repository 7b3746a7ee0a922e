"""Examination of a set-up before its first run: doctor."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from sqap_vla_ros.cli.console import progress_bar
from sqap_vla_ros.cli.directories import result_directory, robot_model_file, used_by_one, what_stays

if TYPE_CHECKING:
    from rich.console import Console

    from sqap_vla_ros.config.robot import Configuration
    from sqap_vla_ros.tools.doctor.evidence import Evidence
    from sqap_vla_ros.tools.doctor.findings import Finding


@dataclass(frozen=True)
class Doctor:
    """Examine a bag or live topics before the first run.

    Reports whether the set-up will work. Looks at system packages, GPU, instruction, action convention, normalisation,
    images, camera_info, TF, at the tool's place in the image, and at the time that each policy takes. Writes
    doctor.json and tool.png, the newest image with the projected tool and its axes. Exit code 1: something keeps the
    set-up from working.

    Example:
        sqap-vla doctor my_bag --robot franka --policies sqap fp16
    """

    bag: tyro.conf.Positional[Path | None] = None
    """rosbag2 directory, or a bare .mcap or .db3 file."""
    live: bool = False
    """Listen to the topics of a running robot instead; nothing is commanded."""
    seconds: float = 5.0
    """Duration of listening [s]."""
    namespace: str = ""
    """Namespace of the node, as left where /left/joint_states is read; default: none."""
    use_sim_time: bool = False
    """Live stamps are those of a simulated clock, /clock."""
    checkpoint: str = ""
    """Name in config/checkpoints, run directory, .pt file or Hub id; default: the one in the robot file."""
    policies: tuple[str, ...] = ("sqap", "fp16")
    """Files of config/policies; the first is the one to run, the others are measured for comparison."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one."""
    out: Path | None = None
    """New directory for doctor.json and tool.png; default: out/doctor, or the first free one of out/doctor-2, ..."""
    instruction: str = ""
    """The task, in plain words; default: the instruction topic."""
    image_topic: str = ""
    """Camera image topic; default: the one in the robot file, or the only one in the bag."""
    camera_info_topic: str = ""
    """Topic of the camera's calibration; default: the one next to the images."""
    tf_namespace: str = ""
    """Namespace of the transforms, as /left for /left/tf; default: /tf, or the namespace of the images."""
    extrinsic: Path | None = None
    """YAML file with parent, child, xyz [m], and rpy [rad] or quaternion: the camera's pose, for bags without it."""
    urdf: Path | None = None
    """URDF of the arm, in place of the one on its topic or in the robot file."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; default: next to the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the policies run on."""

    def run(self, console: "Console") -> None:
        """Examine, print the findings, and exit with 1 where there is a problem."""
        from sqap_vla_ros.tools.doctor.findings import findings_table, has_problem, verdict
        from sqap_vla_ros.tools.doctor.machine import check_system_packages

        lacking = check_system_packages()
        # Without these packages, what follows could not even be imported.
        findings, out = (lacking, None) if has_problem(lacking) else self._examine(console)
        console.print(findings_table(f"{self.robot}, {'live' if self.live else self.bag}", findings))
        console.print(verdict(findings), style="bold", highlight=False)
        if out is not None:
            console.print(f"written to {out}", markup=False, soft_wrap=True)
        if has_problem(findings):
            sys.exit(1)

    def _examine(self, console: "Console") -> "tuple[list[Finding], Path]":
        from sqap_vla_ros.config.files import ConfigurationError
        from sqap_vla_ros.config.policy import read_policy
        from sqap_vla_ros.config.robot import load_configuration

        if self.live == (self.bag is not None):
            raise ConfigurationError("give a bag to examine, or --live to listen to a running robot")
        overrides = {
            "checkpoint": self.checkpoint,
            "tokenizer": self.tokenizer,
            "instruction": self.instruction,
            "command.robot_model": robot_model_file(self.urdf),
            "device": self.device,
            "topics.image": self.image_topic if self.live else "",
            "topics.camera_info": self.camera_info_topic if self.live else "",
        }
        given = {name: value for name, value in overrides.items() if value}
        configuration = load_configuration(self.robot, self.namespace, **given)
        for policy in self.policies:
            read_policy(policy)  # so that a mistake in a name costs no time
        out = result_directory(self.out, "doctor")
        with used_by_one(out), what_stays(console, lambda: "nothing is kept; give the same command again"):
            return self._judge(self._listen(configuration, console), out, console), out

    def _listen(self, configuration: "Configuration", console: "Console") -> "Evidence":
        """Collect the evidence of the bag or of the live topics."""
        from sqap_vla_ros.bags.observations import read_extrinsic
        from sqap_vla_ros.bags.robot_bag import RobotBag
        from sqap_vla_ros.config.policy import read_policy
        from sqap_vla_ros.perception.needs import needs_of
        from sqap_vla_ros.tools.doctor.examine import read_bag

        needs = needs_of(read_policy(self.policies[0]), configuration)
        with progress_bar(console) as progress:
            if self.bag is None:
                from sqap_vla_ros.tools.doctor.live_topics import read_live

                task = progress.add_task("seconds listened", total=self.seconds)
                evidence = read_live(
                    configuration,
                    self.seconds,
                    self.use_sim_time,
                    self.namespace,
                    lambda seconds: progress.update(task, completed=round(seconds, 1)),
                    needs,
                )
            else:
                with RobotBag(self.bag, configuration) as bag:
                    task = progress.add_task("seconds of the bag", total=round(bag.duration_s, 1))
                    start_ns = bag.start_ns
                    evidence = read_bag(
                        bag,
                        configuration,
                        self.image_topic,
                        self.camera_info_topic,
                        self.tf_namespace,
                        read_extrinsic(self.extrinsic) if self.extrinsic else None,
                        lambda at_ns: progress.update(task, completed=round((at_ns - start_ns) * 1e-9, 1)),
                        needs,
                    )
        return evidence

    def _judge(self, evidence: "Evidence", out: Path, console: "Console") -> "list[Finding]":
        """Examine the evidence, and write the findings."""
        from sqap_vla_ros.tools.doctor.examine import examine

        with console.status("judging") as status:
            source = "live" if self.bag is None else str(self.bag)
            return examine(evidence, self.policies, out, source, status.update)
