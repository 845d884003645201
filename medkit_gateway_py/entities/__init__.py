"""What exists: areas, components, apps, functions and their ids. Pure Python: no rclpy, no HTTP, no clock."""
