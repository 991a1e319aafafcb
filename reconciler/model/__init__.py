"""Frozen values: manifests, identities, and what is known of replicas. No I/O, no clock, no decisions."""
