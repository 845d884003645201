"""Who may do what: tokens, roles, TLS, rate limits (API.md §9). Knows nothing of ROS."""
