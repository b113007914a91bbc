"""Claude Managed Agents over HTTP: the control plane and the event stream, as the wire has them.

Objects and events are the provider's own dictionaries. What a session means is decided elsewhere.
"""

from ._client import ClaudeClient
from ._paging import Page, Pages, Rows
from ._stream import EventStream

__all__ = ["ClaudeClient", "EventStream", "Page", "Pages", "Rows"]
