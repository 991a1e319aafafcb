"""From bytes to manifests: `yamltree` reads YAML into trees that know their places, `parsing` makes manifests of them,
here or, for many, in processes of its own (`parsing.main`)."""

from reconciler.adapters.documents.parsing import parse
from reconciler.adapters.documents.yamltree import MOST_BYTES, read_documents, read_manifest_file

__all__ = ["MOST_BYTES", "parse", "read_documents", "read_manifest_file"]
