"""The command `medkit`: a gateway asked from a shell or a script, over its REST API alone."""
