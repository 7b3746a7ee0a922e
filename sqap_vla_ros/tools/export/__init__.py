"""`sqap-vla export`: recordings become a LeRobot data set, which trains policies and can be replayed again.

In the order of the data's way:

    spans         where episodes begin and end: goals of `~/execute`, or changes of the instruction
    samples       what one row holds: the observation that the node would have planned on, joints, gripper, camera
    grid          samples at a constant rate
    episode       the rows and the video of one episode
    data_set      the description of the whole
    export        from bags to the data set; what is done stays done
"""
