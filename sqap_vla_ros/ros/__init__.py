# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""
The ROS 2 node; everything that it moves around is computed elsewhere.

In the order of the data's way:

    main              the executable: one node in a process of its own
    node              the lifecycle: loads, activates, releases; services and timers
    parameters        the settings as ROS parameters
    subscriptions     each message to where it belongs
    latest_inputs     the newest message of each input; makes the observation          observe
    supervisor        asks the motion gate, and brings the arm to rest                 gate
    policy_runner     at most one plan at a time, and what is wrong with the policy    plan
    policy_process    the policy's process, seen from the node
    policy_child      the same process from inside
    policy_messages   what the two say to each other
    control_loop      the tick from top to bottom; `Commander` checks                  check
    command_sender    sends a command, or the ramp to rest                             publish
    arm_publishers    commands as messages for arm and gripper
    controller_watch      whether the controller itself listens to them, and which node it is
    replacement_question  how the controller joins trajectories, asked before the arm moves
    controller_identity   what tells it from a recorder
    publishers        what is published about a tick: chunk, token mask, markers       record
    conversions       the project's data as messages
    markers           for RViz and Foxglove
    diagnostics       `~/status` and `/diagnostics`
    statistics        counts and times of the node itself
    defects           one traceback for each place that an unforeseen error comes from
    ros_clock         the node's clocks
    listening         the same subscriptions without the node, for the doctor
    controller_questions  what a controller and its manager answer, for the doctor
    controller_facts  these answers
"""
