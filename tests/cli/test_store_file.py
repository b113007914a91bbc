"""Where the command keeps its store: what decides, and who may look into it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from managed_agents_actors import SqliteStore, StoreError
from managed_agents_actors._cli.store_file import open_store, store_path


@pytest.mark.parametrize(
    ("option", "environment", "path"),
    [
        ("a.db", {"MANAGED_AGENTS_STORE": "b.db", "XDG_STATE_HOME": "/state"}, "a.db"),
        (None, {"MANAGED_AGENTS_STORE": "b.db", "XDG_STATE_HOME": "/state"}, "b.db"),
        (None, {"MANAGED_AGENTS_STORE": "", "XDG_STATE_HOME": "/state"}, "/state/managed-agents/store.db"),
        (None, {"XDG_STATE_HOME": "not/absolute"}, "~/.local/state/managed-agents/store.db"),
        (None, {"XDG_STATE_HOME": ""}, "~/.local/state/managed-agents/store.db"),
        (None, {}, "~/.local/state/managed-agents/store.db"),
    ],
)
def test_the_command_line_decides_then_the_environment_then_the_home(
    option: str | None, environment: dict[str, str], path: str
) -> None:
    assert store_path(option, environment) == Path(path).expanduser()


async def test_folders_that_are_made_are_their_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "managed-agents" / "store.db"
    async with open_store(path, only_read=False) as store:
        assert isinstance(store, SqliteStore)
        await store.put("key", 1)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]
    async with open_store(path, only_read=True) as store:
        assert await store.get("key") == 1


async def test_nothing_is_made_to_be_read_only(tmp_path: Path) -> None:
    async with open_store(tmp_path / "state" / "store.db", only_read=True) as store:
        assert await store.items("") == {}
        with pytest.raises(StoreError, match="opened to be read only"):
            await store.put("key", 1)
    assert not any(tmp_path.glob("*"))  # noqa: ASYNC240 -- nobody else waits
