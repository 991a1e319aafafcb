"""Directories of manifests: what lies in them, what it declares, and when that changes."""

from reconciler.adapters.manifests.bulk import Bulk, Source
from reconciler.adapters.manifests.directory import ManifestDirectory

__all__ = ["Bulk", "ManifestDirectory", "Source"]
