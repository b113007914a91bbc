"""How secrets look in a text: by the name that they are given to, and by their own form. Nothing here knows one.

A rule finds one kind of them and says what is left of it. What it leaves, no rule finds again; and each looks at a
place of a text a few times at most, whatever the text is, so that its work is linear.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal, TypeAlias

__all__ = ["Sort", "leaks", "masked", "sort_of", "without_secrets"]

Sort: TypeAlias = Literal["", "secret", "secrets", "authorization"]  # of what a name names
Found: TypeAlias = re.Match[str]

REMOVED: Final = "[redacted]"

# What a name ends with that is given a secret: `ANTHROPIC_API_KEY`, `x-amz-security-token`, `clientSecret`. A space is
# any divider, or none.
_NAMES: Final = (
    *(f"{what} key" for what in ("access", "account", "api", "auth", "encryption", "environment", "master", "private")),
    *(f"{what} key" for what in ("secret", "session", "shared", "signing", "subscription")),
    *(f"{what} token" for what in ("access", "api", "auth", "refresh", "security", "session", "sessions")),
    *(
        "access key id",
        "authorization",
        "cookie",
        "credential",
        "jwt",
        "passphrase",
        "passwd",
        "password",
        "pwd",
        "signature",
    ),
    r"secret(?!(?<=:[0-9]{12}:secret):\S)",  # not in the ARN of one, where nothing is given
    r"token(?!s)",  # in the plural they are counted, unless it is said of what
)


def _by_first_letter(names: Iterable[str]) -> str:
    """One expression for the names in any case; its first letter alone rules most places of a text out."""
    groups = groupby(sorted(names), key=lambda name: name[0])
    rests = {letter: "|".join(name[1:].replace(" ", "[-_. ]?") for name in group) for letter, group in groups}
    return "|".join(f"[{letter}{letter.upper()}](?i:{rest})" for letter, rest in rests.items())


_NAME: Final = _by_first_letter(_NAMES)
_MORE: Final = r"(?: [-_. ]? (?i: value | hash | header | [0-9]{1,3} ) )?"
_NAMED: Final = rf"(?P<name> {_NAME} ) (?P<plural> [sS] )? {_MORE}"
_GIVES: Final = r"[ \t]{0,16}+ (?: [:=]{1,2}+>?+ | %3[ADad] ) [ \t]{0,16}+"
# A name in place of a value, which is then given its own, as in "the token: api key = …".
_LABEL: Final = rf"""
    (?= [A-Za-z0-9_.-]++ (?: [:=]{{1,2}}+>?+ )? [ \t] ) [A-Za-z0-9_.-]*? (?: {_NAME} ) [sS]? {_MORE} {_GIVES}
"""
_SCHEME: Final = r"(?i: bearer | basic | digest | negotiate | token | apikey | aws4-hmac-sha256 ) [ \t]{1,4}"

# A value in quotes, to the next quote that is escaped just as the first one is; it may be cut off before that.
_OPENED: Final = r"b? (?P<escape> \\{0,8} ) (?P<quote> [\"'] )"
_CLOSED: Final = r"(?P=escape)(?P=quote)"
_QUOTED: Final = rf"(?P<quoted> (?: [^\"'\\]++ | (?! {_CLOSED} ) (?: \\*+[\"'] | \\++ ) )++ )"
# A value without them: to a space, a quote, the next parameter of a URL, or what closes or divides the text around it.
_BARE: Final = r"""
    (?: [^\s\"'&\\,:;<>()\[\]{}]++ | \\++ (?! [\s\"'&] | \Z ) | [,:;<>()\[\]{}] (?! \\{0,8} (?: [\s\"'&] | \Z ) ) )++
"""
_ENDED: Final = r"(?! [^\s\"'&\\,:;<>()\[\]{}@] )"
# What is no value, or none any more. What follows on the next line is none either, also where its beginning is escaped.
_NOTHING: Final = rf"""
    (?: (?i: null | none | true | false ) | \.{{3}} | \[\] | \{{\}} | \(\) | (?: {_SCHEME} )? \[redacted\] ) {_ENDED}
    | \\++[nr]
"""
# What follows a plural, beside: how many there are, or a word, as in "the secrets: what must not be shown".
_NO_SECRETS: Final = rf"(?: [0-9]++ | [A-Za-z]++ ) {_ENDED}"


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.VERBOSE | re.ASCII)


_NAMED_AT_END: Final = _compiled(rf"{_NAMED} \W*\Z")
_WITH_SCHEME: Final = _compiled(rf"({_SCHEME}) \S")

# `api_key=abc`, `authorization: Bearer abc`, `cookie: a=b; c=d`, `"token": "abc"`, `'cookies': ['a', 'b']`. What asks
# for a secret at the end of a text in quotes, `"password: ", "more"`, is given none.
_GIVEN: Final = _compiled(
    rf"""
    {_NAMED} (?P<called> \\{{0,8}}[\"'] )? {_GIVES}
    (?: {_OPENED} (?(called) | (?! [,:)}}\]\n] ) ) {_QUOTED}
      | (?! {_NOTHING} | {_LABEL} ) (?(plural) (?! {_NO_SECRETS} ) )
        (?P<bare> (?: {_SCHEME} )? (?: \[ (?! \] ) [^\]]*+ \]?+ (?: {_BARE} )? | {_BARE} )
                  (?: ;[ ]? [^\s=;\"']{{1,64}} = {_BARE} )*+ )
    )
    """
)
# `('x-api-key', 'abc')`, as in a list of headers that is shown.
_PAIRED: Final = _compiled(
    rf"""
    [(\[] \s? {_OPENED} [A-Za-z0-9_.-]*? {_NAMED} {_CLOSED} , [ ]?
    b? {_CLOSED} {_QUOTED} (?= {_CLOSED} ,? \s? [)\]] )
    """
)
# What follows in messages about bearer tokens is none, nor is it in the header that asks for one.
_BEARER: Final = _compiled(
    r"""
    ( [Bb](?i:earer) [ \t]++ )
    (?! (?i: tokens? | auth (?: entication | orization )? | scheme | header | credentials? | grants? | jwts? | keys?
           | of | or | and | is | was | in | for | to | with | from | must | not | the | (?: realm | error | scope ) =
           | ) [^\w\s\"'<>,;\\\[\]]*+ (?: [\s\"'<>,;\\\[\]] | \Z ) )
    [^\s\"'<>,;\\\[\]]+
    """
)
_BASIC: Final = re.compile(r"([Bb](?i:asic)[ \t]++)(?![A-Za-z0-9+/]*(?i:basic))([A-Za-z0-9+/]{8,}={0,2})")
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_.-]*+")
# Not within a word, as in task-…; but an escape may end with a letter, too.
_API_KEY: Final = re.compile(
    r"sk-(?:(?<![a-z]sk-)|(?<=\\[nrt]sk-)|(?<=%[0-9A-Fa-f]{2}sk-)|(?=ant-|proj-))[A-Za-z0-9_-]{16,}"
)
_AWS_KEY_ID: Final = re.compile(r"A(?:KI|SI)A[A-Z0-9]{12,}")
_ARN: Final = re.compile(r"(arn(?::|%3[Aa])aws[a-z-]{0,40}(?:(?::|%3[Aa])[A-Za-z0-9*-]{0,64}){2}(?::|%3[Aa]))[0-9]{6,}")
_URL: Final = re.compile(r"(://[^\s/?#@:\"'<>\[]*+:)(?:[^\s/?#\"'<>\[]|\[(?!redacted\]))+(?=@)")
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[^-]*+(?:-(?!----END )[^-]*+)*+(?:-----END [^-]*+-----)?+"
)


def sort_of(name: str) -> Sort:
    """Tell what sort of thing is given to a name: a secret, secrets, an ``Authorization`` header, or none of these."""
    found = _NAMED_AT_END.search(name)
    return "" if found is None else _sort(found)


def _sort(found: Found) -> Sort:
    if found["name"].lower() == "authorization":
        return "authorization"
    return "secrets" if found["plural"] else "secret"


def masked(value: str, sort: Sort) -> str:
    """What is shown in place of a value: of an ``Authorization`` header its scheme, if it has one."""
    scheme = _WITH_SCHEME.match(value) if sort == "authorization" else None
    return REMOVED if scheme is None else scheme[1] + REMOVED


def _without_given(found: Found) -> str:
    value = found["quoted"] or found["bare"]
    return found[0].removesuffix(value) + masked(value, _sort(found))


def _without_paired(found: Found) -> str:
    return found[0].removesuffix(found["quoted"]) + masked(found["quoted"], _sort(found))


def _without_basic(found: Found) -> str:
    """Keep `basic understanding`: no base64 of a user and a password, and nothing in it that is in no word."""
    scheme, token = found.groups()
    user, colon, _ = base64.b64decode(token[: len(token) // 4 * 4]).partition(b":")
    is_word = not (colon and user.isascii()) and set(token).isdisjoint("0123456789+=")
    return found[0] if is_word else scheme + REMOVED


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one kind of secret is found.

    Attributes:
        kind: What it is called.
        marks: One of these is in the lower-case form of every text that holds such a secret.
        pattern: What is looked at; more than the secret, if that would else be looked at over and over.
        left: What is left of it, which may be all of it.
    """

    kind: str
    marks: tuple[str, ...]
    pattern: re.Pattern[str]
    left: Callable[[Found], str]


_MARKS_OF_NAMES: Final = (
    "key",
    "token",
    "secret",
    "passw",
    "passp",
    "pwd",
    "sign",
    "cookie",
    "credential",
    "author",
    "jwt",
)

# What a later rule looks at, an earlier one has left as it stays; so the names, which look the farthest, come late.
_RULES: Final = (
    _Rule("private key", ("-----begin ",), _PEM, lambda _: REMOVED),
    _Rule("password in a URL", ("://",), _URL, lambda found: found[1] + REMOVED),
    _Rule("JSON web token", ("eyj",), _JWT, lambda found: REMOVED if found[0].count(".") >= 2 else found[0]),
    _Rule("API key", ("sk-",), _API_KEY, lambda _: REMOVED),
    _Rule("AWS access key id", ("akia", "asia"), _AWS_KEY_ID, lambda _: REMOVED),
    _Rule("AWS account", ("arn:", "arn%3"), _ARN, lambda found: found[1] + "0" * 12),
    _Rule("named secret", _MARKS_OF_NAMES, _GIVEN, _without_given),
    _Rule("secret header", _MARKS_OF_NAMES, _PAIRED, _without_paired),
    _Rule("bearer token", ("bearer",), _BEARER, lambda found: found[1] + REMOVED),
    _Rule("basic credentials", ("basic",), _BASIC, _without_basic),
)
# What is in every text that a rule finds something in: most texts are not worth more than a look for these.
_MARKS: Final = (":", "=", " ", ",", "\t", "%3", "sk-", "eyJ", "AKIA", "ASIA")


def without_secrets(text: str) -> str:
    """Give a text without what is, or looks like, a secret in it."""
    for mark in _MARKS:
        if mark in text:
            break
    else:
        return text
    lowered = text.lower()
    for rule in _RULES:
        for mark in rule.marks:
            if mark in lowered:
                text = rule.pattern.sub(rule.left, text)
                break
    return text


def leaks(text: str) -> list[str]:
    """Scan a text for secrets, as before it is kept for good.

    Returns:
        The kinds of those that it holds, never they themselves; of a text that :func:`redact` gave, none.
    """
    return [rule.kind for rule in _RULES if any(rule.left(found) != found[0] for found in rule.pattern.finditer(text))]
