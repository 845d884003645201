"""The interface for plugins: import from here what a plugin needs, and nothing from elsewhere (docs/plugins.md)."""

from .plugins.api import *  # noqa: F403
from .plugins.api import __all__ as __all__
