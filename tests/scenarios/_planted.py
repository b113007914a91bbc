"""What the tests of secrets share: secrets as random as real ones, how a server says them again, and the check."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

from hypothesis import Phase, settings
from hypothesis import strategies as st

import managed_agents_actors as maa

from ._observed import CHAINS, Observed

Texts: TypeAlias = st.SearchStrategy[str]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


def drawn(alphabet: str, least: int = 20, most: int = 60, *, before: str = "", after: str = "") -> Texts:
    """Texts of which no other text holds a part by chance, and that are smaller the sooner they are drawn."""
    return st.builds(
        lambda seed, size: before + "".join(random.Random(seed).choices(alphabet, k=size)) + after,
        st.integers(0, 2**32),
        st.integers(least, most),
    )


API_KEYS = drawn(f"{LETTERS}-_", 80, 90, before="sk-ant-api03-", after="AA") | drawn(VISIBLE)
SECRET_KEYS = drawn(f"{LETTERS}/+", 40, 40)
SESSION_TOKENS = drawn(f"{LETTERS}/+", 60, 300, before="IQoJb3JpZ2luX2Vj//////////", after="==")
HEADER_TOKENS = drawn(VISIBLE)
TEXTS = drawn(f"{VISIBLE} \n\t\r\x7f\xa0äß€🦑", 30) | HEADER_TOKENS

FORMS: Mapping[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, slashes too": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "URL": lambda text: quote(text, safe=""),
    "JSON in a URL": lambda text: quote(json.dumps(text)[1:-1]),
}


def examples(most: int) -> settings:
    """So many examples of whole sessions. None is made smaller: no secret says more than another."""
    return settings(max_examples=most, phases=[Phase.explicit, Phase.reuse, Phase.generate])


forms = st.sampled_from(sorted(FORMS))
logs = st.sampled_from(sorted(CHAINS))


def several(texts: Texts, count: int) -> st.SearchStrategy[list[str]]:
    """So many of them."""
    return st.lists(texts, min_size=count, max_size=count)


def said_again(form: str, *secrets: str) -> str:
    """Secrets as a server says them again, one after the other."""
    return " ".join(FORMS[form](secret) for secret in secrets)


async def lookup(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    """A tool that finds something."""
    return "found"


async def ask(session: maa.Session, observed: Observed) -> None:
    """Make a request, and note what comes of it."""
    try:
        result = await session.ask("go")
        observed.note("result", result.error, result.stop_reason)
    except maa.ManagedAgentsError as error:
        observed.note_error(error)
    observed.note("session", session, session.status())


def check(observed: Observed, secrets: Sequence[str], *places: str) -> None:
    """Check that no secret is to be seen, and that in each of these places something was said that held one."""
    shown = observed.showing(*secrets)
    assert not shown, "\n".join(shown)
    for place in places:
        assert "[redacted]" in observed.of(place), place
