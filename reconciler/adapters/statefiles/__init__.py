"""The state directory, except for its run/ and logs/."""

from reconciler.adapters.statefiles.store import StateFiles

__all__ = ["StateFiles"]
