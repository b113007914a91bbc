"""Where the command keeps what it made: a file that its user names, or the one that every call of the user's shares."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from .._errors import ConfigurationError, StoreError
from ..provisioning import Store

__all__ = ["check_is_there", "open_store", "store_path"]


def store_path(option: str | None, environment: Mapping[str, str]) -> Path:
    """Where the store is: as the command line says, or ``MANAGED_AGENTS_STORE``, or in the user's own folder of state.

    Raises:
        ConfigurationError: Nothing says where, and the user has no home.

    Source: XDG Base Directory Specification, ``XDG_STATE_HOME``.
    """
    named = option or environment.get("MANAGED_AGENTS_STORE")
    if named:
        return Path(named)
    state = Path(environment.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # such a one is to be ignored
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError as error:
            raise ConfigurationError("there is no home to keep a store in: give --store") from error
    return state / "managed-agents" / "store.db"


@asynccontextmanager
async def open_store(path: Path, *, only_read: bool) -> AsyncIterator[Store]:
    """Open the store; the file, and its folder, are made if they are not there and something is to be written.

    Raises:
        StoreError: It cannot be opened or made.
        ConfigurationError: This cannot be the path of a file.
    """
    from ..provisioning import SqliteStore  # not before it is needed: it loads SQLite

    if not only_read:
        _make_folders(path.parent)
    async with SqliteStore(path, read_only=only_read) as store:
        yield store


def check_is_there(path: Path) -> None:
    """Refuse a store that is not there, where one without tags would do harm.

    Raises:
        ConfigurationError: There is no such file.
        StoreError: Nobody can say.
    """
    if not _is_there(path):
        raise ConfigurationError(
            f"there is no store {path}, and only a store knows which versions have a tag: give the one that was tagged"
            " in, by --store or MANAGED_AGENTS_STORE"
        )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StoreError(f"the store {path} cannot be reached: {error.strerror}") from error


def _make_folders(folder: Path) -> None:
    """Make a folder, and those above it, for their owner only; those that are there stay as they are."""
    missing = [each for each in (folder, *folder.parents) if not _is_there(each)]
    try:
        for each in reversed(missing):
            each.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the store's folder {folder} cannot be made: {error.strerror}") from error
