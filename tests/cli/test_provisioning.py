"""Building, tagging, listing and pruning by the command line, at both simulators: what is done, and printed."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import MutableMapping
from contextlib import closing
from typing import Any

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors._cli import main
from managed_agents_actors.testing import Delay, Fault, RefuseWith

from .conftest import AGENT, API_KEY, COMMANDS, ENVIRONMENT, ROLE, SECRET_KEY, OpenDesk

PUT_AWAY = {"agents": "archive_agent", "environments": "archive_environment", "harnesses": "delete_harness"}


def spec(**changes: Any) -> maa.AgentSpec:
    return maa.AgentSpec(**{**AGENT, **changes})


# --- ensure -----------------------------------------------------------------------------------------------------------


@COMMANDS
async def test_ensure_builds_once(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        first = await desk.ask("ensure", desk.file())
        assert first["name"] == f"support_{first['digest']}"
        assert (first["dry_run"], first["tracked"]) == (False, True)
        handle = desk.handle.from_json(first["handle"])
        assert (handle.name, handle.digest) == (first["name"], first["digest"])
        assert len(desk.changes) == 1
        assert await desk.ask("ensure", desk.file()) == first
        assert len(desk.changes) == 1
        assert await desk.names() == [first["name"]]


@COMMANDS
async def test_what_is_built_is_what_the_library_builds(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk, desk.simulator.client() as client:
        built = await desk.ask("ensure", desk.file())
        handle: Any
        if command == "agents":
            handle = await maa.ensure_agent(client, spec(), store=maa.MemoryStore())
        elif command == "environments":
            handle = await maa.ensure_environment(client, ENVIRONMENT, store=maa.MemoryStore())
        else:
            handle = await maa.ensure_harness(client, spec(), execution_role_arn=ROLE, store=maa.MemoryStore())
        assert handle.to_json() == built["handle"]


@COMMANDS
async def test_people_read_names_and_values(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        done = await desk.run("ensure", desk.file())
        shown = dict(line.split(maxsplit=1) for line in done.out.splitlines())
        assert (done.status, shown) == (0, (await desk.ask("ensure", desk.file()))["handle"])


@COMMANDS
async def test_the_name_can_be_given(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        built = await desk.ask("ensure", desk.file(), "--name", "other")
        assert built["name"] == f"other_{built['digest']}"


async def test_an_environment_without_a_name_is_env(open_desk: OpenDesk) -> None:
    async with open_desk("environments") as desk:
        built = await desk.ask("ensure", desk.file(name=None))
        assert built["name"] == f"env_{built['digest']}"


async def test_a_harness_gets_the_files_environment_and_role(open_desk: OpenDesk) -> None:
    other = ROLE.replace("Harness", "Other")
    config: dict[str, Any] = {"agentCoreRuntimeEnvironment": {"filesystemConfigurations": []}}
    async with open_desk("harnesses") as desk, desk.simulator.client() as client:
        file = desk.file(environment={"config": config}, execution_role_arn=other)
        place = ["--region", desk.simulator.region, "--endpoint-url", desk.simulator.base_url]
        status = await trio.to_thread.run_sync(main, ["harnesses", "ensure", file, *place, "--json"])
        built = json.loads(desk.capture.readouterr().out)
        assert status == 0
        made = (await client.get_harness(harnessId=built["handle"]["harness_id"]))["harness"]
        assert made["executionRoleArn"] == other
        [asked] = [each for each in desk.simulator.requests if each.method == "POST"]
        assert asked.body["environment"] == config
        # The command line wins over the file.
        again = await desk.ask("ensure", file, "--execution-role-arn", ROLE)
        assert again["digest"] != built["digest"]


@COMMANDS
async def test_what_the_store_has_is_looked_at_if_that_is_asked_for(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk, desk.simulator.client() as client:
        built = await desk.ask("ensure", desk.file())
        assert await desk.ask("ensure", desk.file(), "--verify") == built
        if command == "agents":
            await client.agents.archive(built["handle"]["id"])
        elif command == "environments":
            await client.environments.delete(built["handle"]["id"])
        else:
            await client.delete_harness(harnessId=built["handle"]["harness_id"])
        assert await desk.ask("ensure", desk.file()) == built
        again = await desk.ask("ensure", desk.file(), "--verify")
        assert again["name"] == built["name"]
        assert again["handle"] != built["handle"]
        assert await desk.names() == [built["name"]]


@pytest.mark.parametrize("command", ["agents", "harnesses"])
async def test_runtimes_need_an_environment_to_be_of(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        done = await desk.run("ensure", file := desk.file(), "--with-runtimes")
        assert (done.status, done.out) == (2, "")
        assert done.err == f"managed-agents: --with-runtimes needs to know of runtimes: {file} has no environment\n"
        assert not desk.simulator.requests


@pytest.mark.parametrize("command", ["agents", "harnesses"])
async def test_an_agent_is_told_of_runtimes_if_that_is_asked_for(command: str, open_desk: OpenDesk) -> None:
    runtimes = [{"language": "elixir", "version": "1.20.2"}]
    where = maa.EnvironmentSpec(runtimes=runtimes)
    async with open_desk(command) as desk:
        file = desk.file(environment={"runtimes": runtimes})
        plain, told = await desk.ask("ensure", file), await desk.ask("ensure", file, "--with-runtimes")
        prompts = [
            each.body["system"] if command == "agents" else each.body["systemPrompt"][0]["text"]
            for each in desk.simulator.requests
            if each.method == "POST"
        ]
        assert prompts == ["Be kind.", spec().with_runtimes(where).system_prompt]
        assert plain["digest"] != told["digest"]


async def test_an_environment_says_how_its_runtimes_are_installed(open_desk: OpenDesk) -> None:
    runtimes = [{"language": "elixir", "version": "1.20.2"}]
    async with open_desk("environments") as desk:
        built = await desk.ask("ensure", desk.file(runtimes=runtimes))
        assert "mise use --global elixir@1.20.2" in built["bootstrap"]["script"]
        assert built["bootstrap"]["script"] in built["bootstrap"]["instructions"]
        assert (await desk.ask("ensure", desk.file()))["bootstrap"] is None


# --- ensure --dry-run -------------------------------------------------------------------------------------------------


@COMMANDS
async def test_a_dry_run_says_what_would_be_done_and_does_nothing(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        would = await desk.ask("ensure", desk.file(), "--dry-run")
        assert desk.changes == []
        assert "state" not in desk.files
        assert (would["dry_run"], would["handle"], would["status"]) == (True, None, None)
        assert (would["tracked"], would["exists"], would["outlook"]) == (False, False, "it would be created")
        built = await desk.ask("ensure", desk.file())
        assert (would["name"], would["digest"]) == (built["name"], built["digest"])

        sent = desk.changes
        known = await desk.ask("ensure", desk.file(), "--dry-run")
        assert (known["tracked"], known["exists"]) == (True, True)
        assert known["outlook"] == "the store has it; nothing would be sent"
        looked = await desk.ask("ensure", desk.file(), "--dry-run", "--verify")
        assert looked["outlook"] == "the store has it; it would be looked at, and is there"
        found = await desk.ask("ensure", desk.file(), "--dry-run", "--store", str(desk.folder / "other.db"))
        assert (found["tracked"], found["exists"]) == (False, True)
        assert found["outlook"] == "it exists; it would be taken as it is"
        assert desk.changes == sent
        assert "other.db" not in desk.files


@COMMANDS
async def test_a_dry_run_tells_people_the_same(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        done = await desk.run("ensure", desk.file(), "--dry-run")
        would = await desk.ask("ensure", desk.file(), "--dry-run")
        assert (done.status, done.err) == (0, "")
        assert done.out.splitlines() == [
            f"name     {would['name']}",
            f"digest   {would['digest']}",
            "tracked  no",
            "exists   no",
            "outlook  it would be created",
        ]


async def test_a_dry_run_knows_that_an_archived_environment_keeps_its_name(open_desk: OpenDesk) -> None:
    async with open_desk("environments") as desk, desk.simulator.client() as client:
        built = await desk.ask("ensure", desk.file())
        await client.environments.archive(built["handle"]["id"])
        would = await desk.ask("ensure", desk.file(), "--dry-run")
        assert (would["tracked"], would["exists"], would["status"]) == (True, True, "archived")
        assert would["outlook"] == "the store has it and would be believed, but at the provider it is archived"
        other = str(desk.folder / "other.db")
        would = await desk.ask("ensure", desk.file(), "--dry-run", "--verify")
        assert would["outlook"] == "it would fail: the name belongs to one that is archived"
        would = await desk.ask("ensure", desk.file(), "--dry-run", "--store", other)
        assert would["outlook"] == "it would fail: the name belongs to one that is archived"
        assert (await desk.run("ensure", desk.file(), "--store", other)).status == 1


async def test_a_dry_run_knows_that_an_archived_agent_is_in_nobodys_way(open_desk: OpenDesk) -> None:
    async with open_desk("agents") as desk, desk.simulator.client() as client:
        built = await desk.ask("ensure", desk.file())
        await client.agents.archive(built["handle"]["id"])
        would = await desk.ask("ensure", desk.file(), "--dry-run")
        assert would["outlook"] == "the store has it and would be believed, but at the provider it is gone"
        would = await desk.ask("ensure", desk.file(), "--dry-run", "--verify")
        assert would["outlook"] == "it would be created"
        other = str(desk.folder / "other.db")
        would = await desk.ask("ensure", desk.file(), "--dry-run", "--store", other)
        assert (would["exists"], would["outlook"]) == (False, "it would be created")


async def test_a_dry_run_knows_that_a_harness_is_being_deleted(open_desk: OpenDesk) -> None:
    async with open_desk("harnesses", lifecycle={"delete": 3600}) as desk, desk.simulator.client() as client:
        built = await desk.ask("ensure", desk.file())
        await client.delete_harness(harnessId=built["handle"]["harness_id"])
        other = str(desk.folder / "other.db")
        would = await desk.ask("ensure", desk.file(), "--dry-run", "--store", other)
        assert (would["exists"], would["status"]) == (True, "DELETING")
        assert would["outlook"] == "it would be created as soon as the one that is being deleted is gone"


# --- tags, lists ------------------------------------------------------------------------------------------------------


@COMMANDS
async def test_a_tag_is_moved_and_moved_back(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        one, two = await desk.build("one", "two")
        sent = len(desk.simulator.requests)
        for version in (one, two, one):
            tagged = await desk.ask("tag", "support", "live", version["digest"])
            assert (tagged["base"], tagged["tag"], tagged["digest"]) == ("support", "live", version["digest"])
            found = await desk.ask("resolve", "support:live")
            assert (found["reference"], found["handle"]) == ("support:live", version["handle"])
        assert len(desk.simulator.requests) == sent
        assert (await desk.run("tag", "support", "live", two["digest"])).out == f"support:live is {two['digest']}\n"
        done = await desk.run("resolve", "support:live")
        assert dict(line.split(maxsplit=1) for line in done.out.splitlines()) == two["handle"]


@COMMANDS
async def test_a_list_has_the_newest_first_with_tags(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        one, two = await desk.build("one", "two")
        for tag in ("live", "best"):
            await desk.ask("tag", "support", tag, one["digest"])
        listed = (await desk.ask("list", "support"))["versions"]
        assert [set(version) for version in listed] == [{"name", "id", "digest", "created_at", "tags", "tracked"}] * 2
        assert [version["name"] for version in listed] == [two["name"], one["name"]]
        assert [version["tags"] for version in listed] == [[], ["best", "live"]]
        assert [version["tracked"] for version in listed] == [True, True]
        done = await desk.run("list", "support", "--store", str(desk.folder / "other.db"))
        rows = [line.split() for line in done.out.splitlines()]
        assert rows[0] == ["digest", "created", "tags", "tracked", "id"]
        assert [(row[0], row[-2], row[-1]) for row in rows[1:]] == [
            (version["digest"], "no", version["id"]) for version in listed
        ]


@COMMANDS
async def test_an_empty_list_is_no_failure(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        assert (await desk.ask("list", "support"))["versions"] == []
        done = await desk.run("list", "support")
        assert (done.status, done.out) == (0, "there is no version of support\n")
        assert "state" not in desk.files


@COMMANDS
async def test_an_unknown_tag_or_digest_is_exit_status_1(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        done = await desk.run("resolve", "support:live", "--json")
        assert (done.status, done.answer["error"]["context"]["reason"]) == (1, "unknown tag")
        done = await desk.run("tag", "support", "live", "0" * 8, "--json")
        assert (done.status, done.answer["error"]["context"]["reason"]) == (1, "untracked digest")
        assert done.err == f"managed-agents: {done.answer['error']['message']}\n"


async def test_tags_of_an_account_with_a_name_outlive_the_key(
    open_desk: OpenDesk, environment: MutableMapping[str, str]
) -> None:
    async with open_desk("agents") as desk:
        built = await desk.ask("ensure", desk.file(), "--account", "acme")
        await desk.ask("tag", "support", "live", built["digest"], "--account", "acme")
        desk.simulator.rotate_key("another")
        environment["ANTHROPIC_API_KEY"] = "another"
        found = await desk.ask("resolve", "support:live", "--account", "acme")
        assert found["handle"] == built["handle"]


# --- prune ------------------------------------------------------------------------------------------------------------


@COMMANDS
async def test_prune_says_what_went_and_why_the_rest_stayed(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        names = [version["name"] for version in await desk.build("1", "2", "3", "4")]
        await desk.ask("tag", "support", "live", names[1].rpartition("_")[2])
        sent = desk.changes
        would = await desk.ask("prune", "support", "--keep", "1", "--dry-run")
        assert (desk.changes, len(await desk.names())) == (sent, 4)
        pruned = await desk.ask("prune", "support", "--keep", "1")
        assert pruned == {**would, "dry_run": False}
        assert pruned["archived"] == [names[0], names[2]]
        assert pruned["kept"] == {names[3]: "newest", names[1]: "tagged"}
        assert await desk.names() == [names[3], names[1]]


@COMMANDS
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
async def test_nothing_is_pruned_by_a_store_that_is_not_there(
    command: str, more: list[str], open_desk: OpenDesk
) -> None:
    """It would know of no tag."""
    async with open_desk(command) as desk:
        names = [version["name"] for version in await desk.build("1", "2")]
        await desk.ask("tag", "support", "live", names[0].rpartition("_")[2])
        sent = len(desk.simulator.requests)
        path = desk.folder / "typo.db"
        done = await desk.run("prune", "support", "--keep", "1", "--store", str(path), *more)
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith(f"managed-agents: there is no store {path}, ")
        assert (len(desk.simulator.requests), "typo.db" in desk.files) == (sent, False)
        assert await desk.names() == names[::-1]


@COMMANDS
async def test_who_only_looks_leaves_no_trace_in_the_stores_folder(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        [built] = await desk.build("1")
        await desk.ask("tag", "support", "live", built["digest"])
        folder = desk.folder / "state"
        lock = folder / "store.db-lock"
        lock.unlink()
        before = (folder / "store.db").read_bytes()
        assert (await desk.ask("resolve", "support:live"))["handle"] == built["handle"]
        assert (await desk.ask("list", "support"))["versions"][0]["tags"] == ["live"]
        assert (await desk.ask("ensure", desk.file("1"), "--dry-run"))["tracked"] is True
        assert (await desk.ask("prune", "support", "--keep", "1", "--dry-run"))["kept"] == {built["name"]: "newest"}
        assert [each.name for each in folder.iterdir()] == ["store.db"]
        assert (folder / "store.db").read_bytes() == before


@COMMANDS
async def test_a_file_that_is_no_store_is_left_where_it_is(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        file = desk.file()
        before, files = (desk.folder / file).read_bytes(), desk.files
        for line in (
            ["ensure", file],
            ["ensure", file, "--dry-run"],
            ["list", "support"],
            ["resolve", "support:live"],
            ["tag", "support", "live", "0" * 8],
            ["prune", "support", "--keep", "1"],
            ["prune", "support", "--keep", "1", "--dry-run"],
        ):
            done = await desk.run(*line, "--store", file)
            assert done.status == 1
            assert file in done.err
        assert ((desk.folder / file).read_bytes(), desk.files) == (before, files)
        assert desk.changes == []


@COMMANDS
async def test_prune_tells_people(command: str, open_desk: OpenDesk) -> None:
    done = "deleted" if command == "harnesses" else "archived"
    async with open_desk(command) as desk:
        names = [version["name"] for version in await desk.build("1", "2")]
        would = await desk.run("prune", "support", "--keep", "1", "--dry-run")
        assert [line.split(maxsplit=3) for line in would.out.splitlines()] == [
            ["would", "be", done, names[0]],
            ["kept", names[1], "(newest)"],
        ]
        pruned = await desk.run("prune", "support", "--keep", "1")
        assert [line.split(maxsplit=1) for line in pruned.out.splitlines()] == [
            [done, names[0]],
            ["kept", f"{names[1]} (newest)"],
        ]


@COMMANDS
async def test_a_prune_that_fails_says_what_was_done(command: str, open_desk: OpenDesk) -> None:
    fault = Fault(on=PUT_AWAY[command], action=RefuseWith(403), nth=2, times=100)
    async with open_desk(command, fault) as desk:
        names = [version["name"] for version in await desk.build("1", "2", "3", "4")]
        failed = await desk.run("prune", "support", "--keep", "1")
        assert failed.status == 1
        assert failed.out.split() == ["deleted" if command == "harnesses" else "archived", names[0]]
        assert failed.err.startswith(f"managed-agents: {names[1]} could not be put away (")
        assert "Traceback" not in failed.err
        again = await desk.run("prune", "support", "--keep", "1", "--json")
        context = again.answer["error"]["context"]
        assert (again.status, context["archived"], context["failed"]) == (1, [], names[1])
        assert context["kept"] == {names[3]: "newest"}


# --- long waits -------------------------------------------------------------------------------------------------------


async def test_progress_goes_to_standard_error(open_desk: OpenDesk) -> None:
    async with open_desk("harnesses", lifecycle={"create": 0.3, "endpoint": 1.2}) as desk:
        done = await desk.run("ensure", desk.file(), "--timeout", "5", "--json")
        harness_id = done.answer["handle"]["harness_id"]
        lines = done.err.splitlines()
        assert lines[0] == f"managed-agents: waiting for {harness_id} (ready): CREATING, 0 s"
        assert any(f"waiting for {harness_id} (endpoint ready): " in line for line in lines)


async def test_a_wait_ends_with_its_timeout_and_what_was_made_is_gone(open_desk: OpenDesk) -> None:
    async with open_desk("harnesses", lifecycle={"create": 3600}) as desk:
        done = await desk.run("ensure", desk.file(), "--timeout", "0.4", "--json")
        error = done.answer["error"]
        assert (done.status, error["type"]) == (1, "ProvisioningError")
        assert (error["context"]["phase"], error["context"]["status"]) == ("ready", "CREATING")
        assert error["message"] in done.err
        assert [line.split()[0] for line in desk.changes] == ["POST", "DELETE"]


async def test_what_may_be_left_behind_is_said(open_desk: OpenDesk) -> None:
    refused = Fault(on="delete_harness", action=RefuseWith(403), times=100)
    async with open_desk("harnesses", refused, lifecycle={"create": 3600}) as desk:
        done = await desk.run("ensure", desk.file(), "--timeout", "0.2", "--json")
        [note] = done.answer["error"]["notes"]
        assert note.startswith("may be left behind: harness support_")
        assert f"managed-agents: {note}\n" in done.err


@pytest.mark.parametrize(
    ("number", "status", "times"), [(signal.SIGINT, 130, 1), (signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 1)]
)
async def test_an_interrupt_takes_back_what_was_being_made(
    number: signal.Signals, status: int, times: int, open_desk: OpenDesk
) -> None:
    """Whoever interrupts that, too, does not wait for it."""
    slow = Fault(on="delete_harness", action=Delay(3600 if times == 2 else 0))
    async with open_desk("harnesses", slow, lifecycle={"create": 3600}) as desk:
        command = [sys.executable, "-m", "managed_agents_actors", *desk.line("ensure", desk.file(), "--json")]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stderr is not None
        assert process.stdout is not None
        err = b""
        with trio.fail_after(60):
            while b"waiting for" not in err:
                err += await process.stderr.receive_some()
            process.send_signal(number)
            if times == 2:
                while len(desk.changes) < 2:  # noqa: ASYNC110 -- the log of requests tells nobody
                    await trio.sleep(0.01)
                process.send_signal(number)
            assert await process.wait() == status
            err += b"".join([part async for part in process.stderr])
            answer = json.loads(b"".join([part async for part in process.stdout]))
        assert (answer["command"], answer["kind"], answer["error"]["type"]) == (
            "ensure",
            "harness",
            "KeyboardInterrupt",
        )
        assert b"Traceback" not in err
        assert [line.split()[0] for line in desk.changes] == ["POST", "DELETE"]


# --- refusals ---------------------------------------------------------------------------------------------------------


@COMMANDS
@pytest.mark.parametrize("verb", ["ensure", "list", "prune"])
async def test_what_the_provider_refuses_is_exit_status_1(
    command: str, verb: str, open_desk: OpenDesk, environment: MutableMapping[str, str]
) -> None:
    environment.update(ANTHROPIC_API_KEY=f"{API_KEY}-no", AWS_SECRET_ACCESS_KEY=f"{SECRET_KEY}/no")
    async with open_desk(command) as desk:
        async with maa.SqliteStore(desk.folder / "store.db"):
            pass
        environment["MANAGED_AGENTS_STORE"] = str(desk.folder / "store.db")
        rest = {"ensure": [desk.file()], "list": ["support"], "prune": ["support", "--keep", "1"]}[verb]
        for more in ([], ["--json"]):
            done = await desk.run(verb, *rest, *more)
            assert done.status == 1
            assert done.err.startswith("managed-agents: 40")
            assert "Traceback" not in done.err
            for secret in (API_KEY, SECRET_KEY):
                assert secret not in done.out + done.err
        assert done.answer["error"]["type"] in ("AuthenticationError", "PermissionDeniedError")


@COMMANDS
async def test_a_store_that_cannot_be_used_is_exit_status_1(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        foreign = desk.folder / "foreign.db"
        with closing(sqlite3.connect(foreign)) as database:
            database.execute("CREATE TABLE letters (text)")
        before = foreign.read_bytes()
        for path, told in (
            (foreign, "foreign.db"),
            (desk.folder, str(desk.folder)),
            (foreign / "below" / "store.db", "foreign.db/below"),
        ):
            done = await desk.run("ensure", desk.file(), "--store", str(path), "--json")
            assert (done.status, done.answer["error"]["type"]) == (1, "StoreError")
            assert told in done.err
            assert "Traceback" not in done.err
        assert desk.changes == []
        assert foreign.read_bytes() == before


@COMMANDS
async def test_what_the_store_cannot_keep_is_built_all_the_same_and_told(command: str, open_desk: OpenDesk) -> None:
    async with open_desk(command) as desk:
        await desk.build("one")
        with closing(sqlite3.connect(desk.folder / "state" / "store.db")) as database:
            full = "CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
            database.execute(full)
        done = await desk.run("ensure", desk.file("two"), "--json")
        name = done.answer["name"]
        assert (done.status, done.answer["tracked"]) == (0, False)
        assert done.err == f"managed-agents: the store could not keep {name}; run this again before it is tagged\n"
        assert name in await desk.names()


@COMMANDS
@pytest.mark.parametrize(
    "arguments",
    [
        ["prune", "support", "--keep", "0"],
        ["tag", "sup:port", "live", "0" * 8],
        ["tag", "support", "live", "no digest"],
        ["resolve", "support"],
        ["list", ""],
    ],
)
async def test_values_that_cannot_be_used_are_exit_status_2(
    command: str, arguments: list[str], open_desk: OpenDesk
) -> None:
    async with open_desk(command) as desk:
        done = await desk.run(*arguments)
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith("managed-agents: ")
        assert "Traceback" not in done.err
        assert not desk.simulator.requests


@pytest.mark.parametrize("option", [["--timeout", "0"], ["--timeout", "nan"], ["--execution-role-arn", "admin"]])
async def test_options_of_a_harness_are_checked_first(option: list[str], open_desk: OpenDesk) -> None:
    async with open_desk("harnesses") as desk:
        done = await desk.run("ensure", desk.file(), "--dry-run", *option)
        assert done.status == 2
        assert ("timeout" if option[0] == "--timeout" else "execution_role_arn= must be the ARN of a role") in done.err
        assert not desk.simulator.requests


async def test_a_harness_needs_a_role(open_desk: OpenDesk, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_desk("harnesses") as desk:
        for value, told in ((None, "a harness needs a role"), ("admin", "harnesses.json: execution_role_arn=")):
            file = desk.file(execution_role_arn=value)
            assert await trio.to_thread.run_sync(main, ["harnesses", "ensure", file]) == 2
            assert told in capsys.readouterr().err


def test_an_account_is_needed(environment: MutableMapping[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del environment[name]
    assert main(["agents", "list", "support"]) == 2
    assert "ANTHROPIC_API_KEY" in capsys.readouterr().err
    assert main(["harnesses", "list", "support"]) == 2
    assert "AWS_REGION" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["agents"],
        ["agents", "ensure"],
        ["agents", "prune", "support"],
        ["agents", "prune", "support", "--keep", "many"],
        ["agents", "ensure", "file.json", "--region", "eu-west-1"],
        ["environments", "ensure", "file.json", "--with-runtimes"],
        ["harnesses", "tag", "support", "live", "00000000"],
        ["harnesses", "list", "support", "--base-url", "http://localhost"],
        ["harnesses", "ensure", "file.json", "--timeout", "soon"],
    ],
)
def test_a_command_line_that_cannot_be_understood_is_exit_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage: managed-agents" in capsys.readouterr().err


@COMMANDS
@pytest.mark.parametrize("verb", [None, "ensure", "list", "tag", "resolve", "prune"])
def test_every_command_has_help(command: str, verb: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([command, *([] if verb is None else [verb]), "--help"])
    assert raised.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: managed-agents {command}" in told
    assert verb is not None or ("AWS Bedrock AgentCore" if command == "harnesses" else "Claude Managed Agents") in told


def test_mistakes_are_told_without_loading_what_is_not_needed() -> None:
    program = (
        "import sys\nfrom managed_agents_actors._cli import main\n"
        "main(['agents', 'ensure', 'no.json'])\nprint(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "no.json cannot be read" in run.stderr
    loaded = set(run.stdout.split())
    assert not loaded & {"botocore", "yaml", "pytest", "sqlite3", "managed_agents_actors.testing"}
