"""The one way in which this room says no."""


class Refused(Exception):
    """The host does not have, or will not give, what a spec names. The text says so in plain words."""


def reason(error: OSError | ValueError) -> str:
    """Why the kernel refused, as a shell would put it."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
