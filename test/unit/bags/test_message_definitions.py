"""The definitions in msg/ survive the way into a bag: what is written there can be read again."""

import pytest
from paths import ROOT
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

MESSAGES = sorted((ROOT / "msg").glob("*.msg"))


@pytest.mark.parametrize("file", MESSAGES, ids=lambda file: file.stem)
def test_a_definition_in_a_bag_is_the_one_in_the_file(file) -> None:
    name = f"sqap_vla/msg/{file.stem}"
    written, read = get_typestore(Stores.ROS2_JAZZY), get_typestore(Stores.ROS2_JAZZY)
    for other in MESSAGES:
        written.register(get_types_from_msg(other.read_text(encoding="utf-8"), f"sqap_vla/msg/{other.stem}"))
    definition, _ = written.generate_msgdef(name, ros_version=2)
    read.register(get_types_from_msg(definition, name))
    assert read.fielddefs[name] == written.fielddefs[name]
