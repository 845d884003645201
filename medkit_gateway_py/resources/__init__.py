"""What an entity offers, a module a collection. Local entities only; peers are asked by `aggregation/`."""
