"""Where local entities come from: providers behind one interface."""
