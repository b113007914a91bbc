"""The wire, as pure functions and state machines: bytes in, values out.

Nothing in this room can do I/O: no ``async``, no clock, no randomness, no environment, and of ours only the
errors and the model. Whoever reads from or writes to a socket does it elsewhere and feeds these decoders.
"""
