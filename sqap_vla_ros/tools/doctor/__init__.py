"""`sqap-vla doctor`: will this set-up work? It examines a bag, or a few live seconds of a robot.

`evidence` collects messages, from a bag (`examine.read_bag`) or live (`live_topics`); each other module checks one part
of the set-up and returns `findings`; `examine` runs all checks in the order in which a set-up is built.
"""
