"""What an evaluation compares: policy files, recipes that compressed the weights, and disturbances."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqap_vla_ros.config.files import ConfigurationError

# Name on the command line -> field of `Disturbance`, and unit. A delay is a setting of the loop itself.
DISTURBANCES = {
    "camera_rotation": ("camera_rotation_deg", "deg"),
    "camera_translation": ("camera_translation_m", "m"),
    "tf_offset": ("tf_offset_m", "m"),
    "image_noise": ("image_noise", "grey levels"),
    "drop_frames": ("drop_frames", "share"),
    "delay": ("", "s"),
}


@dataclass(frozen=True)
class Variant:
    """A policy file on the float weights or on compressed ones.

    Attributes:
        policy: Name of a file in config/policies, or a path to one.
        recipe: Name of a file in config/recipes, or a path to one; empty: the float checkpoint.
    """

    policy: str
    recipe: str = ""

    @classmethod
    def parse(cls, word: str) -> "Variant":
        """Parse `POLICY` or `POLICY@RECIPE`.

        Raises:
            ConfigurationError: One of the names is empty.
        """
        policy, at, recipe = word.partition("@")
        if not policy or (at and not recipe):
            raise ConfigurationError(f"policies: '{word}': expected POLICY or POLICY@RECIPE, as in sqap@w4a4")
        return cls(policy, recipe)

    def __str__(self) -> str:
        return f"{self.policy}@{self.recipe}" if self.recipe else self.policy


@dataclass(frozen=True)
class Condition:
    """The condition that an episode is played under: no disturbance, or one of one size.

    Attributes:
        kind: A key of `DISTURBANCES`; empty: none.
        size: Size in the unit of that disturbance.
    """

    kind: str = ""
    size: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}={self.size:g}" if self.kind else ""


UNDISTURBED = Condition()


def parse_conditions(words: Sequence[str]) -> tuple[Condition, ...]:
    """Parse words such as `tf_offset=0.01,0.02` into a condition per size, after the undisturbed one.

    Raises:
        ConfigurationError: An unknown disturbance, or a size that is not a positive number.
    """
    conditions = [UNDISTURBED]
    for word in words:
        kind, _, sizes = word.partition("=")
        if kind not in DISTURBANCES:
            known = ", ".join(f"{name} [{unit}]" for name, (_, unit) in DISTURBANCES.items())
            raise ConfigurationError(f"disturbances: '{word}': expected NAME=SIZE,SIZE with one of {known}")
        for size in sizes.split(","):
            try:
                value = float(size)
            except ValueError:
                value = float("nan")
            most = 1.0 if kind == "drop_frames" else float("inf")
            if not 0 < value < most:
                below = " below 1" if most == 1 else ""
                raise ConfigurationError(
                    f"disturbances: '{word}': '{size}' is not a size; expected a positive number{below}"
                )
            condition = Condition(kind, value)
            if str(condition) in map(str, conditions):
                raise ConfigurationError(f"disturbances: '{condition}' is given twice")
            conditions.append(condition)
    return tuple(conditions)
