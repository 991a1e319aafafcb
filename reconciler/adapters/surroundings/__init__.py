"""What a spec names on this host: accounts, links and the contents of files. `reading` is the door."""

from reconciler.adapters.surroundings.reading import Surroundings

__all__ = ["Surroundings"]
