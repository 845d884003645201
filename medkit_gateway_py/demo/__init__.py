"""Small robots to try the gateway on, and the programs of `./scripts/demo`. The gateway itself uses none of it."""
