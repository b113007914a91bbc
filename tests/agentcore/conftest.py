"""botocore is loaded before the tests, as a thread that does it would not be waited for by virtual time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from managed_agents_actors.agentcore import _loading

from ..http.conftest import _reply


@pytest.fixture(scope="session", autouse=True)
def aws() -> _loading.Aws:
    """botocore, loaded."""
    return _loading.load()


@pytest.fixture(autouse=True)
def environment() -> Iterator[Any]:
    """The process environment without anything of AWS, put back afterwards; no instance is asked for credentials."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def reply() -> Callable[..., bytes]:
    """Makes the bytes of a response with a content length."""
    return _reply
