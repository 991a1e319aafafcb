"""What the keeper (reconciler/keeper.py) consists of: standard library only, since it outlives everything else.

decisions   what to do when, and whom to tell      services   the two that it starts: states, events, figures
letters     what waits for a controller            handover   how other code takes its place
footing     what its loop stands on
"""
