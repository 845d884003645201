"""Peers: finding them, merging their trees with ours, forwarding to them and asking them all at once."""
