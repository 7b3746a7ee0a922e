"""Are the topics in the robot's file those of the robot?"""

from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level


def check_topics(evidence: Evidence) -> list[Finding]:
    """Find topics of the robot's file that a bag lacks."""
    configuration = evidence.configuration
    topics = configuration.topics
    findings = []
    for name, named in evidence.other_topics.items():
        advice = f"the node subscribes to what the robot's file names: correct topics.{name} if the robot has the other"
        findings.append(
            Finding(
                Level.WARNING, "topics", f"the bag has {getattr(topics, name)}, the robot's file names {named}", advice
            )
        )
    bag_topics = evidence.bag_topics
    if bag_topics is not None and not configuration.command.moves_tool and topics.joint_states not in bag_topics:
        advice = "nothing is commanded without joint states: see topics.joint_states, or record them too"
        findings.append(Finding(Level.WARNING, "topics", f"the bag has no {topics.joint_states}", advice))
    return findings
