"""BLAKE2b: the one hash of this project, for what shall be told apart and not be hidden.

`hashlib` offers the same function, and loads OpenSSL for others that nobody here wants.
"""

try:
    from _blake2 import blake2b
except ImportError:  # an interpreter that has it elsewhere
    from hashlib import blake2b

__all__ = ["blake2b"]
