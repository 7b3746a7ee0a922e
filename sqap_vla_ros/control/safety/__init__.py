"""The one place that decides whether the arm may move, and what a command must satisfy before it is sent."""
