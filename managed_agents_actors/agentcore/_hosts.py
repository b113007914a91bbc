"""Where a region's services are. Pure functions.

Source: AWS, endpoint rules of both services: a plain form, with the domain of the region's partition.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .._errors import ConfigurationError

__all__ = ["check_region", "default_url"]

# By the beginning of the region's name; the longer ones first.
_DOMAINS: Final = {
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
    "us-iso-": "c2s.ic.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
    "cn-": "amazonaws.com.cn",
    "": "amazonaws.com",
}


def default_url(service: str, region: str) -> str:
    """The base URL of a service in a region."""
    domain = next(domain for prefix, domain in _DOMAINS.items() if region.startswith(prefix))
    return f"https://{service}.{region}.{domain}"


def check_region(value: Any) -> str:
    """Give a region's name back.

    Raises:
        ConfigurationError: It cannot be one.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", value):
        shown = ascii(value)[:100] if isinstance(value, str) else f"a {type(value).__name__}"
        raise ConfigurationError(f"region must be the name of an AWS region such as us-east-1, not {shown}")
    return value
