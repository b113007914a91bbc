"""What we take from botocore: models, serializer, parser, signer, credentials. The one room that imports it.

Importing this takes most of a second: nothing outside does so at its top. It is loaded on a client's first call, in a
worker thread, by ``agentcore._loading``. Nothing here waits or sends.
"""
