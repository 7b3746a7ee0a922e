"""Commands that measure success rates in closed loop: evaluate, simpler."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from sqap_vla_ros.cli.console import print_line, progress_bar

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Evaluate:
    """Measure success rates in LIBERO.

    Every policy plays the same episodes in closed loop. Writes episodes.jsonl (one line per episode), results.json,
    results.md, success.png, robustness.png and videos of failures. A run that was stopped goes on when the same command
    is given again, and more episodes, tasks or policies can be added later. Disturbances are camera_rotation [deg],
    camera_translation [m], tf_offset [m], image_noise [grey levels], drop_frames [fraction] and delay [s].

    Example:
        sqap-vla evaluate my_run --policies fp16 sqap@w4a4 --episodes 25
    """

    checkpoint: tyro.conf.Positional[str]
    """Name in config/checkpoints, run directory, .pt file or Hub id."""
    policies: tuple[str, ...] = ("fp16", "sqap@w4a4")
    """POLICY or POLICY@RECIPE, files of config/policies and config/recipes; all are compared with the first one."""
    tasks: tuple[str, ...] = ()
    """Names of tasks, as pick_can; default: those that the checkpoint was trained on, or all where it is not known."""
    episodes: int = 25
    """Number of episodes per task, policy and disturbance. Initial states repeat after 50; fixtures shift in each."""
    out: Path | None = None
    """Directory for results and compressed checkpoints; default: out/evaluation_ and the checkpoint's name."""
    disturbances: tuple[str, ...] = ()
    """NAME=SIZE,SIZE, as camera_rotation=1,2; played in addition to the undisturbed episodes."""
    workers: int = 2
    """Episodes at a time."""
    ray: str = ""
    """Address of a Ray cluster whose machines see the same files ("auto": the running one); default: this machine."""
    ros: bool = False
    """Play over ROS topics and in real time, with cell and node as processes; slower."""
    calibration: tuple[str, ...] = ()
    """Bags, folders of images or demonstrations, or libero[:SUITE]; default: demonstrations that are recorded now."""
    frames: int = 32
    """Number of frames to take from them."""
    plan_period: float = 0.2
    """Time from plan to plan [s]; with --ros the node plans as often as it can."""
    videos: int = 2
    """Number of failures per policy that are played again and filmed."""
    robot: str = "libero_panda"
    """Name of a file in config/robots, or a path to one."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; default: next to the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the policies run on."""

    def run(self, console: "Console") -> None:
        """Play, with progress and running success rates, and print the tables."""
        print_line(console, "reading the settings and the tasks")  # at once: what follows imports for seconds
        from sqap_vla_ros.config.files import ConfigurationError, named_checkpoint
        from sqap_vla_ros.config.recipe import read_recipe
        from sqap_vla_ros.simulation.tasks import chosen_tasks
        from sqap_vla_ros.tools.evaluation.run import Evaluation, trained_tasks
        from sqap_vla_ros.tools.evaluation.session import run_evaluation
        from sqap_vla_ros.tools.evaluation.variants import Variant, parse_conditions

        if self.ros and (self.robot, self.tokenizer, self.device) != ("libero_panda", "", "auto"):
            raise ConfigurationError("--robot, --tokenizer and --device have no effect with --ros: leave them out")
        evaluation = Evaluation(
            checkpoint=self.checkpoint,
            out=self.out or Path("out") / f"evaluation_{Path(self.checkpoint).stem}",
            tasks=chosen_tasks(self.tasks or trained_tasks(named_checkpoint(self.checkpoint))),
            variants=tuple(Variant.parse(word) for word in self.policies),
            conditions=parse_conditions(self.disturbances),
            episodes=self.episodes,
            robot=self.robot,
            calibration=self.calibration,
            calibration_frames=self.frames,
            plan_period_s=self.plan_period,
            workers=self.workers,
            ray_address=self.ray,
            over_topics=self.ros,
            tokenizer=self.tokenizer,
            device=self.device,
        )
        for variant in evaluation.variants:
            if variant.recipe:
                read_recipe(variant.recipe)  # so that a mistake in a name costs no time
        run_evaluation(evaluation, console, shlex.join(["sqap-vla", *sys.argv[1:]]), self.videos)


@dataclass(frozen=True)
class Simpler:
    """Measure success rates in SIMPLER.

    Plays the published tasks of the Google Robot or the WidowX; needs SIMPLER and a GPU. With the published weights,
    once with --policy fp16 and once on the compressed checkpoint with --policy sqap, this is Table 1 of SQAP-VLA. A run
    that was stopped goes on when the same command is given again; policies measured in one directory share its tables.

    Example:
        sqap-vla simpler CogACT/CogACT-Base --policy fp16 --robot google_robot
    """

    checkpoint: tyro.conf.Positional[str]
    """Name in config/checkpoints, run directory, .pt file or Hub id, compressed or not."""
    policy: str = "sqap"
    """Name of a file in config/policies, or a path to one."""
    robot: Literal["google_robot", "widowx_bridge"] = "google_robot"
    """Robot whose tasks are played."""
    tasks: tuple[str, ...] = ()
    """Names of tasks, as pick_coke_can; default: all of the robot."""
    settings: tuple[Literal["visual_matching", "variant_aggregation"], ...] = ("visual_matching", "variant_aggregation")
    """Real backgrounds, varied looks, or both."""
    episodes: int = 0
    """Number of episodes per task and setting, spread over its scenes; 0: all that were published."""
    out: Path = Path("out/simpler")
    """Directory for episodes.jsonl, results.json and results.md."""
    tokenizer: str = ""
    """Directory of the Llama-2 tokenizer; default: next to the checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the policy runs on."""

    def run(self, console: "Console") -> None:
        """Run the episodes, with progress, and print the tables."""
        from sqap_vla_ros.config.files import expand_home
        from sqap_vla_ros.config.policy import read_policy
        from sqap_vla_ros.config.robot import Configuration
        from sqap_vla_ros.config.settings import validate
        from sqap_vla_ros.policies.registry import load_policy
        from sqap_vla_ros.simulation.simpler.convention import SETUPS
        from sqap_vla_ros.simulation.simpler.episode import ROBOTS
        from sqap_vla_ros.simulation.simpler.evaluation import (
            EPISODES_FILE,
            evaluate,
            read_results,
            require_simpler,
            reserve_results,
        )
        from sqap_vla_ros.simulation.simpler.policy import SimplerPolicy
        from sqap_vla_ros.simulation.simpler.published import choose
        from sqap_vla_ros.simulation.simpler.report import write_report
        from sqap_vla_ros.tools.compression.companions import companion_hashes
        from sqap_vla_ros.vlm.checkpoint import open_checkpoint

        episodes = choose(self.robot, self.tasks, self.settings, self.episodes)
        require_simpler()
        settings = {
            "robot_name": self.robot,
            "statistics_key": SETUPS[self.robot].statistics_key,
            "action.rate_hz": ROBOTS[self.robot].control_hz,
            "checkpoint": self.checkpoint,
            "policy": self.policy,
            "tokenizer": self.tokenizer,
            "device": self.device,
        }
        policy = load_policy(validate(Configuration, settings, "sqap-vla simpler"), console.print)
        adapter = SimplerPolicy(policy, SETUPS[self.robot])
        names = policy.metadata.policy_id, policy.metadata.weights
        tokenizer = expand_home(self.tokenizer) if self.tokenizer else None
        about = {
            "policy": read_policy(self.policy).model_dump(mode="json"),
            "beside the weights": companion_hashes(open_checkpoint(self.checkpoint), tokenizer),
            "device": policy.metadata.device,
        }
        run = reserve_results(self.out, policy.metadata.policy_id, about)
        done = successes = 0
        try:
            with run.lock(), progress_bar(console, speed_estimate_period=3600) as progress:
                task = progress.add_task(policy.metadata.policy, total=len(episodes))
                for result in evaluate(episodes, adapter, names, self.robot, run.record(EPISODES_FILE)):
                    done, successes = done + 1, successes + result.success
                    words = f"{policy.metadata.policy}: {successes} of {done} succeeded"
                    progress.update(task, description=words, completed=done)
        except KeyboardInterrupt:
            words = f"stopped; what is done stays in {self.out}, the same command goes on from there"
            console.print(words, soft_wrap=True)
            raise
        finally:
            if found := read_results(run.record(EPISODES_FILE)):
                console.print(write_report(found, self.out), soft_wrap=True)
                console.print(f"written to {self.out}", soft_wrap=True)
