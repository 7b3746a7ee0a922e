"""The topics of a robot file."""

from pydantic import Field, model_validator

from sqap_vla_ros.config.cameras import Cameras, OptionalTopicName, TopicName
from sqap_vla_ros.config.names import NODE, absolute_name
from sqap_vla_ros.config.settings import Group


class Topics(Group):
    """Topics that the node subscribes to and publishes on; names without a leading / are in the node's namespace."""

    image: TopicName = Field("camera/color/image_raw", description="Images: sensor_msgs/Image or CompressedImage")
    camera_info: TopicName = Field(
        "camera/color/camera_info", description="Calibration of the camera: sensor_msgs/CameraInfo"
    )
    cameras: Cameras = Cameras()
    joint_states: TopicName = Field("joint_states", description="Measured joints: sensor_msgs/JointState")
    robot_description: TopicName = Field(
        "robot_description", description="URDF of the arm: std_msgs/String, transient local"
    )
    enable: OptionalTopicName = Field(
        "",
        description="Enabling switch (dead-man), std_msgs/Bool: the arm moves only while it is true. Empty: no switch",
    )
    command: TopicName = Field(
        "joint_trajectory_controller/joint_trajectory",
        description="Input of the arm's controller: trajectory_msgs/JointTrajectory, or what command.output selects",
    )
    speed_scaling: OptionalTopicName = Field(
        "",
        description="Speed scaling of the arm's controller in percent: std_msgs/Float64, as of UR's "
        "speed_scaling_state_broadcaster; without it the arm does not move. Empty: what is found of that broadcaster, "
        "or in the controller's ~/controller_state",
    )
    gripper_command: OptionalTopicName = Field(
        "", description="Topic or action of the gripper's controller. Empty: no gripper"
    )

    def in_namespace(self, namespace: str, node: str = NODE) -> "Topics":
        """The same topics with absolute names, as the node resolves them in a namespace."""
        topics = {name: absolute_name(topic, namespace, node) for name, topic in self if isinstance(topic, str)}
        return self.model_copy(update={**topics, "cameras": self.cameras.in_namespace(namespace, node)})

    @model_validator(mode="after")
    def _first_camera(self) -> "Topics":
        """The first of several cameras is also the one of the single form."""
        first = {"image": self.cameras.images[:1], "camera_info": self.cameras.camera_infos[:1]}
        for name, (topic, *_) in ((name, topics) for name, topics in first.items() if topics):
            if name in self.model_fields_set and getattr(self, name) != topic:
                raise ValueError(
                    f"topics.{name} = '{getattr(self, name)}', but topics.cameras has '{topic}' for the first one"
                )
            self.__dict__[name] = topic
        return self
