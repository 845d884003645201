"""One diagnostics API for a fleet of ROS 2 robots: a gateway from the ROS graph to a SOVD-style REST tree."""

__version__ = "0.1.0"
