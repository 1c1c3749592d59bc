"""Hooks that are ready to be used: `Server(hooks=[ContentLog(sample=0.01)])`."""

from .content_log import ContentLog

__all__ = ("ContentLog",)
