"""Random sessions under random faults, in virtual time, judged from outside; exits with 1 if anything broke.

``case`` says what happens, ``faults`` what goes wrong, ``play`` lets it happen and writes the record, ``laws`` judge
the record, ``campaign`` does so many times. A case is determined by its seed; of AgentCore's, ``harness_case`` and its
neighbours do the same. Beside it ``every_byte`` cuts a recorded
turn wherever it can be cut. Nothing here knows how the library works.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys

from .campaign import PROVIDERS, Failure, campaign
from .every_byte import VARIANTS, try_every_byte


def main() -> int:
    given = _parser().parse_args()
    if given.every_byte is not None:
        return _every_byte(given.every_byte or list(VARIANTS), slice(given.first, None, given.step), given.jobs)
    seed = secrets.randbelow(10**12) if given.seed is None else given.seed
    seconds = 60.0 if given.cases is None and given.seconds is None else given.seconds
    tally = campaign(seed, cases=given.cases, seconds=seconds, jobs=given.jobs, tell=_tell, provider=given.provider)
    print(tally)
    return 1 if tally.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--cases", type=int, help="how many cases")
    what.add_argument("--seconds", type=float, help="for how long (default: 60)")
    what.add_argument("--every-byte", nargs="*", choices=VARIANTS, help="every cut of these variants (default: all)")
    parser.add_argument("--provider", choices=PROVIDERS, default="both", help="whose cases (default: both, in turn)")
    parser.add_argument("--first", type=int, default=0, help="with --every-byte: the first cut (default: 0)")
    parser.add_argument("--step", type=int, default=1, help="with --every-byte: from one cut to the next (default: 1)")
    parser.add_argument("--seed", type=int, help="the first case's seed (default: a fresh one)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    return parser


def _every_byte(names: list[str], part: slice, jobs: int) -> int:
    broken = 0
    for name in names:
        count, found = try_every_byte(name, part, jobs=jobs)
        print("\n".join([*found, f"{name}: {count} cuts, {len(found)} change something"]), flush=True)
        broken += len(found)
    return 1 if broken else 0


def _tell(failure: Failure) -> None:
    print(failure, flush=True)


if __name__ == "__main__":
    sys.exit(main())
