"""Faults of local entities: the store of our own, or a fault manager's, behind one interface (API.md §7)."""
