"""Handlers, a module a collection. Each module's HANDLERS maps a `serve` key of the route table to a factory."""
