"""What the pump (reconciler/pump.py) consists of: standard library only, and no state but in files.

streams     all of them: which is served when                plumbing   what they share
conduit     one stream: a FIFO into a log, by splice         logfile    the open file of a log, and its rotation
framer      the other way, for whole lines                   framing    how lines look
staging     where lines wait, exactly                        console    standard output as a place for lines
"""
