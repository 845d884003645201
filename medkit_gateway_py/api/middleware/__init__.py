"""Pure ASGI middleware, one concept a file; `app.py` puts them in order (API.md §1.9)."""
