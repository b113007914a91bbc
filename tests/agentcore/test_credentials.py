"""Whose keys sign: given ones, the provider chain, ones that run out or are refused; never on the event loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from botocore import exceptions
from botocore.credentials import Credentials, RefreshableCredentials

from managed_agents_actors import _errors as errors
from managed_agents_actors.agentcore import AgentCoreClient
from managed_agents_actors.agentcore._credentials import Keys

from ._wire import HARNESS_ARN, KEYS, MESSAGES, SESSION_ID, client_of, open_wire, recomputed_signature, sends

Make = Callable[..., bytes]

EXPIRED = [("x-amzn-errortype", "ExpiredTokenException")]


def who(wire: Any) -> list[str]:
    """The access keys the requests were signed with."""
    return [request.headers["authorization"].split("Credential=")[1].split("/")[0] for request in wire.requests]


class Refreshing:
    """Temporary keys, and who asked for them."""

    def __init__(self, *seconds_left: float, failing: int = 0) -> None:
        self.seconds_left = list(seconds_left)
        self.threads: list[str] = []
        self.failing = failing
        self.asked = 0

    def fetch(self) -> dict[str, Any]:
        self.threads.append(threading.current_thread().name)
        if self.failing:
            self.failing -= 1
            raise OSError("secret-in-a-message")
        self.asked += 1
        left = self.seconds_left.pop(0) if len(self.seconds_left) > 1 else self.seconds_left[0]
        expiry = datetime.now(UTC) + timedelta(seconds=left)
        return {
            "access_key": f"AKID{self.asked}",
            "secret_key": f"secret-{self.asked}",
            "token": f"token-{self.asked}",
            "expiry_time": expiry.isoformat(),
        }

    def credentials(self) -> RefreshableCredentials:
        return RefreshableCredentials.create_from_metadata(self.fetch(), self.fetch, "test")


@pytest.mark.parametrize(
    "given",
    [
        KEYS,
        list(KEYS),
        SimpleNamespace(access_key=KEYS[0], secret_key=KEYS[1], token=KEYS[2]),
        Credentials(*KEYS),
        Credentials(*KEYS).get_frozen_credentials(),
        SimpleNamespace(get_frozen_credentials=lambda: Credentials(*KEYS).get_frozen_credentials()),
    ],
    ids=["tuple", "list", "object", "botocore's", "botocore's frozen", "anything that freezes"],
)
async def test_credentials_may_be_given_in_many_forms(reply: Make, given: Any) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(), reply()]
        client = client_of(wire, credentials=given)
        for _ in range(2):
            await client.list_harnesses()
    for request in wire.requests:
        assert request.headers["authorization"] == recomputed_signature(request)
        assert request.headers["x-amz-security-token"] == KEYS[2]


async def test_without_a_session_token_none_is_sent(reply: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(), reply()]
        for keys in (KEYS[:2], (*KEYS[:2], None)):
            await client_of(wire, credentials=keys).list_harnesses()
    for request in wire.requests:
        assert "x-amz-security-token" not in request.headers
        assert request.headers["authorization"] == recomputed_signature(request, keys=(*KEYS[:2], None))


async def test_the_provider_chain_reads_environment_and_profiles(
    reply: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[other]\naws_access_key_id = AKIDFILE\naws_secret_access_key = file-secret\n")
    environment["AWS_SHARED_CREDENTIALS_FILE"] = os.fspath(file)
    environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"] = "AKIDENV", "env-secret"
    async with open_wire() as wire:
        wire.replies = [reply()] * 2
        await client_of(wire, credentials=None).list_harnesses()
        await client_of(wire, credentials=None, profile="other").list_harnesses()
        with pytest.raises(errors.ConfigurationError, match="nobody"):
            await client_of(wire, credentials=None, profile="nobody").list_harnesses()
    assert who(wire) == ["AKIDENV", "AKIDFILE"]


async def test_no_credentials_say_what_to_do() -> None:
    async with open_wire() as wire:
        with pytest.raises(errors.ConfigurationError, match=r"credentials=.*AWS_ACCESS_KEY_ID"):
            await client_of(wire, credentials=None).list_harnesses()
    assert wire.requests == []


async def test_credentials_are_asked_for_only_when_their_end_is_near(reply: Make) -> None:
    fresh, near = Refreshing(3600), Refreshing(300, 3600)
    async with open_wire() as wire:
        wire.replies = [reply()] * 6
        for source in (fresh, near):
            client = client_of(wire, credentials=source.credentials())
            for _ in range(3):
                await client.list_harnesses()
    assert who(wire) == ["AKID1"] * 3 + ["AKID2"] * 3
    assert (len(fresh.threads), len(near.threads)) == (1, 2)
    assert near.threads[0] == threading.main_thread().name
    assert near.threads[1] != threading.main_thread().name


async def test_keys_that_last_cost_no_thread(reply: Make) -> None:
    source = Refreshing(3600)
    threads: list[str] = []

    class Watched(RefreshableCredentials):
        def get_frozen_credentials(self) -> Any:
            threads.append(threading.current_thread().name)
            return super().get_frozen_credentials()

    credentials = Watched.create_from_metadata(source.fetch(), source.fetch, "test")
    async with open_wire() as wire:
        wire.replies = [reply()] * 5
        client = client_of(wire, credentials=credentials)
        for _ in range(5):
            await client.list_harnesses()
    assert len(threads) == 1
    assert threads[0] != threading.main_thread().name


async def test_many_calls_ask_once(reply: Make) -> None:
    source = Refreshing(300, 3600)
    credentials = source.credentials()
    async with open_wire() as wire:
        wire.replies = [reply()] * 50
        client = client_of(wire, credentials=credentials)
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(client.list_harnesses)
    assert source.asked == 2
    assert set(who(wire)) == {"AKID2"}


async def test_while_one_asks_the_old_keys_will_do_if_they_last(reply: Make) -> None:
    source = Refreshing(3600, 3600)
    asking, may_answer = threading.Event(), threading.Event()

    def fetch() -> Mapping[str, Any]:
        asking.set()
        may_answer.wait(10)
        return source.fetch()

    metadata = source.fetch()
    credentials = RefreshableCredentials.create_from_metadata(metadata, fetch, "test")
    async with open_wire() as wire, trio.open_nursery() as nursery:
        wire.replies = [reply()] * 3
        client = client_of(wire, credentials=credentials)
        await client.list_harnesses()
        credentials._expiry_time = datetime.now(UTC) + timedelta(minutes=12)  # between botocore's two limits
        nursery.start_soon(client.list_harnesses)
        await trio.to_thread.run_sync(asking.wait, 10)
        await client.list_harnesses()
        assert who(wire) == ["AKID1", "AKID1"]
        may_answer.set()
    assert who(wire) == ["AKID1", "AKID1", "AKID2"]


async def test_credentials_out_of_reach_are_a_passing_failure_that_shows_nothing() -> None:
    source = Refreshing(300, 3600)
    credentials = source.credentials()
    source.failing = 1
    async with open_wire() as wire:
        with pytest.raises(errors.TransportError, match="OSError") as caught:
            await client_of(wire, credentials=credentials).list_harnesses()
    assert not caught.value.request_sent
    assert "secret" not in str(caught.value)
    assert wire.requests == []


async def test_those_who_wait_share_the_failure(reply: Make) -> None:
    source = Refreshing(300, 300, 3600)
    credentials = source.credentials()
    asking, may_fail = threading.Event(), threading.Event()

    def fetch() -> Mapping[str, Any]:
        asking.set()
        may_fail.wait(10)
        return source.fetch()

    credentials._refresh_using = fetch
    source.failing, source.threads = 1, []
    failures: list[errors.TransportError] = []
    async with open_wire() as wire:
        client = client_of(wire, credentials=credentials)

        async def call() -> None:
            with pytest.raises(errors.TransportError, match="OSError") as caught:
                await client.list_harnesses()
            failures.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(call)
            await trio.to_thread.run_sync(asking.wait, 10)
            may_fail.set()
        assert len(source.threads) == 1
        assert len(set(map(id, failures))) == 8
        assert {(failure.request_sent, type(failure.__cause__)) for failure in failures} == {(False, OSError)}
        wire.replies = [reply()]
        await client.list_harnesses()
    assert len(source.threads) == 2


async def test_those_who_wait_for_a_provider_without_an_end_share_its_keys(reply: Make) -> None:
    asked, asking, may_answer = [], threading.Event(), threading.Event()

    def freeze() -> Any:
        asked.append(threading.current_thread().name)
        asking.set()
        may_answer.wait(10)
        return Credentials(*KEYS).get_frozen_credentials()

    async with open_wire() as wire:
        wire.replies = [reply()] * 9
        client = client_of(wire, credentials=SimpleNamespace(get_frozen_credentials=freeze))
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(client.list_harnesses)
            await trio.to_thread.run_sync(asking.wait, 10)
            may_answer.set()
        assert len(asked) == 1
        await client.list_harnesses()
    assert len(asked) == 2


async def test_one_that_waited_asks_when_the_one_that_asked_is_cancelled(reply: Make) -> None:
    asking, may_answer = threading.Event(), threading.Event()
    threads: list[str] = []

    def freeze() -> Any:
        threads.append(threading.current_thread().name)
        if len(threads) == 1:
            asking.set()
            may_answer.wait(10)
        return Credentials(*KEYS).get_frozen_credentials()

    async with open_wire() as wire, trio.open_nursery() as nursery:
        wire.replies = [reply()]
        client = client_of(wire, credentials=SimpleNamespace(get_frozen_credentials=freeze))
        first = trio.CancelScope()

        async def ask() -> None:
            with first:
                await client.list_harnesses()

        nursery.start_soon(ask)
        await trio.to_thread.run_sync(asking.wait, 10)
        async with trio.open_nursery() as others:
            others.start_soon(client.list_harnesses)
            await trio.testing.wait_all_tasks_blocked()
            assert len(threads) == 1
            first.cancel()
        may_answer.set()
    assert (len(threads), len(wire.requests)) == (2, 1)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (exceptions.UnauthorizedSSOTokenError(), "SSO session .* aws sso login"),
        (exceptions.SSOTokenLoadError(error_msg="token for x does not exist"), "does not exist.*aws sso login"),
        (exceptions.RefreshWithMFAUnsupportedError(), "MFA token required"),
    ],
)
async def test_a_login_that_has_run_out_says_what_to_do(failure: Exception, words: str) -> None:
    """Asking again would not help: it is no failure in passing."""

    def freeze() -> Any:
        raise failure

    async with open_wire() as wire:
        with pytest.raises(errors.ConfigurationError, match=words) as caught:
            await client_of(wire, credentials=SimpleNamespace(get_frozen_credentials=freeze)).list_harnesses()
    assert caught.value.__cause__ is failure
    assert wire.requests == []


async def test_credentials_that_hang_say_that_nothing_was_sent() -> None:
    may_answer = threading.Event()

    def freeze() -> Any:
        may_answer.wait(10)
        return Credentials(*KEYS).get_frozen_credentials()

    async with open_wire() as wire:
        provider = SimpleNamespace(get_frozen_credentials=freeze)
        client = client_of(wire, credentials=provider, timeout=0.05, idle_timeout=0.05)
        for act in (client.list_harnesses, lambda: read(client)):
            with pytest.raises(errors.TransportError, match=r"credential did not come within 0\.05 s") as caught:
                await act()
            assert not caught.value.request_sent
    may_answer.set()
    assert wire.requests == []


async def read(client: AgentCoreClient) -> Any:
    turn: Any = {"harnessArn": HARNESS_ARN, "runtimeSessionId": SESSION_ID, "messages": MESSAGES}
    async with client.invoke_harness(**turn) as stream:
        return [event async for event in stream]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "UnauthorizedException"), (403, "ExpiredTokenException"), (403, "UnrecognizedClientException")],
)
async def test_refused_keys_are_looked_for_again_once(
    reply: Make, environment: dict[str, str], status: int, code: str, streams: bool
) -> None:
    """An invocation too: what was refused was not begun."""
    environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"] = "AKIDOLD", "old-secret"
    refusal = reply(status=status, headers=[("x-amzn-errortype", code)])

    async def rotate(peer: Any) -> None:
        environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"] = "AKIDNEW", "new-secret"
        await peer.send(refusal)

    async with open_wire() as wire:
        client = client_of(wire, credentials=None)
        act = read(client) if streams else client.list_harnesses()
        wire.replies = [rotate, sends(end=True) if streams else reply()]
        await act
        wire.replies = [refusal]
        with pytest.raises(errors.AuthenticationError):
            await (read(client) if streams else client.list_harnesses())
    assert who(wire) == ["AKIDOLD", "AKIDNEW", "AKIDNEW"]
    assert len(wire.requests) == 3


async def test_a_refusal_is_not_forgotten_when_no_other_keys_are_found(
    reply: Make, environment: dict[str, str]
) -> None:
    environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"] = "AKIDOLD", "old-secret"

    async def take_away(peer: Any) -> None:
        del environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        await peer.send(reply('{"message": "expired"}', status=403, headers=EXPIRED))

    async with open_wire() as wire:
        wire.replies = [take_away]
        with pytest.raises(errors.ConfigurationError, match="no AWS credentials were found") as caught:
            await client_of(wire, credentials=None).list_harnesses()
    [note] = caught.value.__notes__
    assert "403 ExpiredTokenException: expired" in note


async def test_those_whose_keys_were_refused_ask_once_for_others(reply: Make) -> None:
    asked: list[threading.Event] = []
    asking = threading.Semaphore(0)

    def freeze() -> Any:
        asked.append(threading.Event())
        asking.release()
        asked[-1].wait(10)
        return Credentials(*KEYS).get_frozen_credentials()

    async with open_wire() as wire:
        wire.replies = [reply(status=403, headers=EXPIRED)] * 8
        client = client_of(wire, credentials=SimpleNamespace(get_frozen_credentials=freeze))

        async def call() -> None:
            with pytest.raises(errors.AuthenticationError):
                await client.list_harnesses()

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(call)
            for number in range(2):
                await trio.to_thread.run_sync(asking.acquire)
                await trio.testing.wait_all_tasks_blocked()
                asked[number].set()
    assert (len(asked), len(wire.requests)) == (2, 8)


async def test_refused_keys_that_stay_the_same_are_not_sent_again(reply: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=403, headers=EXPIRED)]
        with pytest.raises(errors.AuthenticationError):
            await client_of(wire).list_harnesses()
    assert len(wire.requests) == 1


async def test_a_signature_that_was_too_old_is_made_anew_once(reply: Make) -> None:
    body = '{"message": "Signature expired: 20261123T000000Z is now earlier than 20261123T001500Z"}'
    old = reply(body, status=403, headers=[("x-amzn-errortype", "InvalidSignatureException")])
    async with open_wire() as wire:
        wire.replies = [old, reply(), old, old]
        await client_of(wire).list_harnesses()
        with pytest.raises(errors.AuthenticationError):
            await client_of(wire).list_harnesses()
    assert len(wire.requests) == 4


async def test_a_permission_is_no_credential(reply: Make) -> None:
    source = Refreshing(3600)
    async with open_wire() as wire:
        wire.replies = [reply(status=403, headers=[("x-amzn-errortype", "AccessDeniedException")])]
        with pytest.raises(errors.PermissionDeniedError):
            await client_of(wire, credentials=source.credentials()).list_harnesses()
    assert len(wire.requests) == len(source.threads) == 1


async def test_asking_can_be_cancelled_and_a_later_call_asks_again(reply: Make) -> None:
    source = Refreshing(300, 3600)
    credentials, asking, hang = source.credentials(), threading.Event(), threading.Event()

    def fetch() -> Mapping[str, Any]:
        asking.set()
        hang.wait(10)
        return source.fetch()

    credentials._refresh_using = fetch
    async with open_wire() as wire:
        wire.replies = [reply()]
        client = client_of(wire, credentials=credentials)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.list_harnesses)
                await trio.to_thread.run_sync(asking.wait, 10)
                scope.cancel()
        assert scope.cancelled_caught
        hang.set()
        await client.list_harnesses()
    assert who(wire) == ["AKID2"]


def test_keys_show_no_secret() -> None:
    shown = repr(Keys(*KEYS))
    assert KEYS[0] in shown
    assert KEYS[1] not in shown
    assert KEYS[2] not in shown
