"""``python -m managed_agents_actors``: the ``managed-agents`` command under the interpreter's name."""

from __future__ import annotations

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
