"""The only room that speaks rclpy: one thread with an executor, one that watches the graph, and message conversion."""
