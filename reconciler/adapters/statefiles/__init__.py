"""The state directory, except for its run/ and logs/."""

from reconciler.adapters.statefiles.store import StateFiles
from reconciler.adapters.statefiles.suspects import SuspectFiles

__all__ = ["StateFiles", "SuspectFiles"]
