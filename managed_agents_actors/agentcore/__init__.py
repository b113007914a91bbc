"""AWS Bedrock AgentCore over HTTP: both planes and the event stream, as the wire has them.

Parameters, answers and events are boto3's own dictionaries. What a session means is decided elsewhere.
"""

from ._client import AgentCoreClient
from ._command import CommandResult
from ._stream import HarnessStream

__all__ = ["AgentCoreClient", "CommandResult", "HarnessStream"]
