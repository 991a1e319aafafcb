"""The imperative shell: a thin loop that observes, asks the core, and carries out its plan through ports."""
