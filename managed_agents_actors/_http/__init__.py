"""HTTP for every provider: the one room that imports httpx, h11 and tenacity.

What leaves it is ours: values, typed errors, byte streams. It knows statuses, retries and connections; it knows no
endpoint and no event.
"""
