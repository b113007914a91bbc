"""AWS Bedrock AgentCore over HTTP: both planes and the event stream, as the wire has them.

Parameters and answers are boto3's own dictionaries, and events are the wire's: boto3's, with what it does not know, and
with bytes (``redactedContent``) still as base64 text. What a session means is decided elsewhere.
"""

from ._client import AgentCoreClient
from ._command import CommandResult
from ._stream import HarnessStream

__all__ = ["AgentCoreClient", "CommandResult", "HarnessStream"]
