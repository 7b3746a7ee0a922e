"""From an action chunk to a checked, timed joint trajectory.

In the order of the data's way:

    commander          chunk and joint states in, prepared command out
    blending           one path of chunks that overlap
    safety/            states, the motion gate, the checks of a command, clipping
    robot_model        the arm from URDF or MJCF
    forward_kinematics the tool's pose from the joints
    ik                 the joints from tool poses
    kinematics         both, and the limits of the joints
    tool_space         the tool itself as what is commanded, where the controller does the kinematics
    trajectory         timed waypoints as a trajectory that keeps every limit and ends at rest
    jerk_qp, jerk      the quadratic programme behind it; a motion's jerk as a figure
    active_trajectory  what the arm is doing, and where the next trajectory branches off it
    latency            how long a trajectory must last, and how far ahead it may branch off
    gripper            the gripper's position, sent when it changes
    commands           joint states, the command, and a command that is not sent yet
    outputs            a command as data of the kind that the robot's controller takes
"""
