"""A child spec, and a supervisor's options, are checked when they are written, and the message names the field."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import trio

from managed_agents_actors import ConfigurationError
from managed_agents_actors.actors import ChildSpec, open_supervisor


async def _start(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()


def test_the_defaults_are_otps() -> None:
    spec = ChildSpec(id="db", start=_start)
    assert (spec.restart, spec.shutdown, spec.significant) == ("permanent", 5.0, False)


def test_a_spec_is_a_value() -> None:
    spec = ChildSpec(id="db", start=_start, shutdown=math.inf)
    assert spec == ChildSpec(id="db", start=_start, shutdown=math.inf)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.id = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": ""}, r"id= must be a non-empty string, not ''"),
        ({"id": 7}, r"id= must be a non-empty string, not 7"),
        ({"start": None}, r"start= of child 'db' must be an async function, not None"),
        ({"restart": "always"}, r"restart= must be one of 'permanent', 'transient', 'temporary', not 'always'"),
        ({"restart": []}, r"restart= must be one of 'permanent', 'transient', 'temporary', not \[\]"),
        ({"shutdown": -1}, r"shutdown= must be a number of seconds, 0 or more, not -1"),
        ({"shutdown": math.nan}, r"shutdown= must be a number of seconds"),
        ({"shutdown": True}, r"shutdown= must be a number of seconds"),
        ({"shutdown": "5"}, r"shutdown= must be a number of seconds"),
        ({"significant": 1}, r"significant= must be a bool, not 1"),
        ({"significant": True}, r"child 'db' is permanent, so it cannot be significant"),
    ],
)
def test_a_field_that_cannot_be_used_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ChildSpec(**{"id": "db", "start": _start, **fields})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "simple_one_for_one"}, r"strategy= must be one of 'one_for_one', 'one_for_all', 'rest_for_one'"),
        ({"auto_shutdown": "always"}, r"auto_shutdown= must be one of 'never', 'any_significant', 'all_significant'"),
        ({"max_restarts": -1}, r"max_restarts= must be an integer of 0 or more, not -1"),
        ({"max_restarts": 2.0}, r"max_restarts= must be an integer of 0 or more, not 2.0"),
        ({"max_restarts": True}, r"max_restarts= must be an integer"),
        ({"max_seconds": 0}, r"max_seconds= must be more than 0"),
        ({"max_seconds": -1.0}, r"max_seconds= must be a number of seconds, 0 or more, not -1.0"),
    ],
)
async def test_an_option_that_cannot_be_used_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        async with open_supervisor(**options):
            pytest.fail("it opened")


@pytest.mark.parametrize("children", [["a"], [{"id": "a"}], [ChildSpec], None, "a", [None]])
async def test_only_specs_are_children(children: Any) -> None:
    with pytest.raises(ConfigurationError):
        async with open_supervisor(children):
            pass


@pytest.mark.parametrize("option", [{"on_event": 3}, {"name": 3}, {"name": ""}])
async def test_a_name_and_a_hook_that_cannot_be_used_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        async with open_supervisor(**option):
            pass
