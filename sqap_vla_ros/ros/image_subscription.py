# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A subscription to images, with the type that their publisher has."""

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

_TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}


class ImageSubscription:
    """
    Images of one topic.

    :param node: Owner of the subscription.
    :param topic: Name of the topic.
    :param callback: Called with each image.
    :param qos: Quality of service that is asked for.
    """

    def __init__(self, node: Node, topic: str, callback: Callable[[Any], None], qos: QoSProfile) -> None:
        self._node = node
        self._topic = node.resolve_topic_name(topic)
        self._callback = callback
        self._qos = qos
        self._subscription: Any = None
        self._kind: type | None = None

    def watch(self) -> None:
        """
        Subscribe with the type that the topic's publishers have; call again now and then.

        Without a publisher yet, the name decides as image_transport names topics: `.../compressed` is compressed.
        """
        offered = {info.topic_type for info in self._node.get_publishers_info_by_topic(self._topic)}
        kinds = [_TYPES[name] for name in sorted(offered) if name in _TYPES]
        if kinds:
            kind = kinds[-1]  # Image before CompressedImage when somebody publishes both
        elif self._kind is not None:
            return
        else:
            kind = CompressedImage if self._topic.endswith("/compressed") else Image
        if kind is self._kind:
            return
        self.end()
        self._kind = kind
        self._subscription = self._node.create_subscription(kind, self._topic, self._callback, self._qos)

    def end(self) -> None:
        """Receive no images any more."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription, self._kind = None, None
