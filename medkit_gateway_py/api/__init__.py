"""HTTP: the app factory, one router a collection, errors, middleware, models."""
