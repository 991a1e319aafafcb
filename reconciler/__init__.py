"""Keeps the processes of a Linux host equal to a directory of YAML manifests.

This module stays free of imports: the keeper and the pump load it, and so does every call of the command line.
"""

__version__ = "0.1.0"
