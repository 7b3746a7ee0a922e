"""`sqap-vla replay` and `compare`: run a policy over recorded bags, measure its plans, report and compare them.

In the order of the data's way:

    jobs             which bags, where the results of each go, and whether they exist already
    many             one bag from its beginning to its report, and many bags in worker processes
    planner          the policy, and a baseline, plan each tick of a bag
    truth            how the tool really moved after a tick
    metrics          how far a plan is from the truth, from the baseline and from the plan before it
    columns          the columns of `ticks.parquet` and `timings.parquet`, and the names of the metrics
    results          writes both tables and `summary.json`
    results_reader   reads them again
    scene            each image with the plan made on it or before it, projected into the camera
    annotate         an MCAP recording of the scenes, for Foxglove and RViz
    video            an MP4 of the scenes
    report/          `report.html`: plots, worst ticks, tables
    judgement        is a policy farther from a reference than the reference's own noise makes it differ from itself?
    verdict          the judgement on replays that had a baseline
    compare          two replays of the same bags: how far are their plans apart, which is faster
    console          progress and summaries on the console
"""
