"""Our providers keep the laws of one, and the laws can be broken: a provider that breaks one is found out."""

from __future__ import annotations

import unittest
from typing import Any, ClassVar

import pytest

from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import ProviderSuite

from . import _deviants as deviants
from ._places import AgentCoreSuite, ClaudeSuite

# --- our own ----------------------------------------------------------------------------------------------------------
# One run of each is of the provider as it is; in the other one it is wrapped as the deviants are, and nothing else.


class TestClaude(ClaudeSuite):
    """Without previews, text comes in whole messages."""

    provider: ClassVar[Any] = deviants.Wrapped(claude_managed_agents)


class TestClaudeWithDeltas(ClaudeSuite):
    """With previews."""

    extra: ClassVar[dict[str, Any]] = {"deltas": True}


class TestAgentCore(AgentCoreSuite):
    """The harness hands the calls of one response off together."""


class TestAgentCoreOneByOne(AgentCoreSuite):
    """The harness takes the results of one response one by one."""

    provider: ClassVar[Any] = deviants.Wrapped(bedrock_agent_core)
    hand_off = "one_by_one"


# --- providers that break a law ---------------------------------------------------------------------------------------

# Who breaks which law, and what the law says then.
OF_CLAUDE = [
    (deviants.DropsTheLastWords, "test_a_request_runs_to_its_end", "the text: expected"),
    (deviants.KeepsStreamsOpen, "test_a_request_runs_to_its_end", "open streams: expected 0, found 1"),
    (
        deviants.DropsAnEvent,
        "test_every_event_is_recorded_once_and_shown_as_it_comes",
        "the provider has sent: expected",
    ),
    (
        deviants.DoublesAnEvent,
        "test_every_event_is_recorded_once_and_shown_as_it_comes",
        "the provider has sent: expected",
    ),
    (deviants.ChangesAnEvent, "test_every_event_is_recorded_once_and_shown_as_it_comes", "an event, beside what"),
    (deviants.DoublesAMessage, "test_text_deltas_make_up_exactly_the_text", "the text: expected"),
    (deviants.DoublesAMessage, "test_nobody_who_is_slow_loses_anything", "the texts: expected"),
    (deviants.DoublesAMessage, "test_an_observer_that_fails_harms_nobody", "found .'end_turn', 'one.none"),
    (deviants.TurnsCallsRound, "test_calls_run_in_their_order_under_the_limit", "the order of the calls: expected"),
    (deviants.SaysThatItWorksOn, "test_an_interrupt_of_a_session_that_rests_does_nothing", "requests, and terminals"),
    (deviants.SendsAnswersTwice, "test_calls_in_one_turn_after_another", "the calls that were answered: expected"),
    (deviants.LosesAnswers, "test_calls_in_one_turn_after_another", "waits for what never comes"),
    (deviants.ConfusesCalls, "test_calls_in_one_turn_after_another", "is no tool call of this session"),
    (
        deviants.SendsAnswersTwice,
        "test_a_call_whose_result_is_in_the_journal_is_not_run_again",
        "calls that were answered",
    ),
    (
        deviants.LosesAnswers,
        "test_every_call_is_settled_in_the_journal_once_it_is_answered",
        "waits for what never comes",
    ),
    (deviants.ConfusesAnswers, "test_results_find_their_calls_in_whatever_order_they_come", "the answers: expected"),
    (deviants.SendsMessagesTwice, "test_everybody_gets_their_own_answer", "the events the handler saw: expected"),
    (deviants.SwallowsInterrupts, "test_what_waits_goes_out_after_an_interrupt", "expected .'begun', 'Next.'., found"),
    (deviants.SwallowsInterrupts, "test_each_request_has_its_own_deadline", "a request after what was before"),
    (deviants.SwallowsInterrupts, "test_a_request_has_so_many_turns", "a request after what was before"),
    (deviants.SwallowsInterrupts, "test_a_guard_may_halt_a_request", "a request after what was before"),
    (deviants.SwallowsInterrupts, "test_interrupt_is_cancelled", "a request after what was before"),
    (
        deviants.HidesFailures,
        "test_a_failure_of_the_providers_ends_the_request_and_says_why",
        "an error, and the calls",
    ),
    (deviants.LosesStopReasons, "test_a_stop_reason_comes_as_the_provider_gave_it", "says max_tokens"),
    (
        deviants.HasNoHistory,
        "test_a_call_that_was_cut_off_with_its_process_is_offered_again",
        "attempts of the process",
    ),
    (deviants.HasNoHistory, "test_a_stream_that_drops_harms_its_request_at_most", "the text, and an error: expected"),
    (deviants.HasOnePageOfHistory, "test_the_history_is_whole", "the provider has sent: expected"),
    (deviants.NamesEventsAnew, "test_the_history_is_whole", "an event, beside what the provider has sent"),
    (deviants.KeepsStreamsOpen, "test_stop_ends_everything_at_once", "open streams: expected 0, found 1"),
    (deviants.KeepsStreamsOpen, "test_run_session_is_cancelled", "open streams after a cancellation at step None"),
    (deviants.AttachesUnderAShield, "test_what_is_under_way_is_given_up_with_its_caller", "expected that stream ends"),
    (
        deviants.RepeatsWhatMayHaveArrived,
        "test_what_fails_is_not_sent_again_by_itself",
        "LoseAnswer.*: expected 1, found 2",
    ),
    (deviants.SendsWhatItCannot, "test_an_outcome_is_graded_or_refused", "expected a ConfigurationError, but nothing"),
    (
        deviants.SendsWhatItCannot,
        "test_a_confirmation_is_asked_for_or_refused",
        "expected a ConfigurationError, but it",
    ),
    (deviants.ChecksNothing, "test_an_event_that_the_provider_does_not_take_harms_nothing", "expected a Configuration"),
    (deviants.LeavesNothing, "test_a_way_to_leave_is_taken_or_refused", "what has become of it by on_exit=archive"),
    (deviants.StartsAnew, "test_a_session_is_resumed_by_its_id", "expected .'sesn_00000001', 'Two.'"),
    (deviants.StartsAnew, "test_a_session_is_resumed_again_and_again", "expected .'1', 'sesn_00000001'"),
    (deviants.StartsAnew, "test_a_session_is_watched_or_needs_a_prompt", "the session, and its turns: expected"),
    (deviants.StartsAnew, "test_a_session_is_made_once", "sessions after one was resumed: expected 1, found 2"),
    (deviants.MakesTwoSessions, "test_a_session_is_made_once", "sessions that were made: expected 1, found 2"),
]
OF_AGENTCORE = [
    (
        deviants.DropsAnEvent,
        "test_every_event_is_recorded_once_and_shown_as_it_comes",
        "the provider has sent: expected",
    ),
    (
        deviants.DropsTheEndsOfBlocks,
        "test_every_event_is_recorded_once_and_shown_as_it_comes",
        "the provider has sent: expected",
    ),
    (
        deviants.DoublesAnEvent,
        "test_every_event_is_recorded_once_and_shown_as_it_comes",
        "the provider has sent: expected",
    ),
    (deviants.ChangesAnEvent, "test_every_event_is_recorded_once_and_shown_as_it_comes", "an event, beside what"),
    (deviants.ConfusesCalls, "test_calls_in_one_turn_after_another", "the session waits for calls that neither"),
]
OF_BOTH = [
    (
        deviants.CountsTwice,
        "test_a_request_runs_to_its_end",
        r"two model requests: expected \(20, 10\), found \(40, 20\)",
    ),
    (deviants.CountsNoCaches, "test_a_request_runs_to_its_end", r"caches saved: expected \(6, 2\), found \(0, 0\)"),
    (deviants.CountsTwice, "test_each_request_has_an_account_of_its_own", "usage of the second: expected"),
    (deviants.TrimsText, "test_text_deltas_make_up_exactly_the_text", "the text: expected"),
    (deviants.RunsTheProvidersCalls, "test_the_providers_own_calls_are_not_run_here", "the provider's calls: expected"),
    (deviants.LosesInputs, "test_any_input_comes_as_the_model_gave_it", "what the handler got: expected"),
    (deviants.TrimsAnswers, "test_any_output_comes_as_the_tool_gave_it", "the answers: expected"),
    (deviants.CallsErrorsSuccess, "test_an_error_of_a_tool_is_an_answer", "whether each failed: expected"),
    (deviants.CallsErrorsSuccess, "test_an_unknown_tool_is_an_error_that_names_it", "expected .'known', False, True."),
    (deviants.CallsErrorsSuccess, "test_a_tool_that_takes_too_long_is_cancelled_and_answered", "the answer: expected"),
    (deviants.SendsMessagesTwice, "test_messages_wait_for_their_turn", "told by then: expected .'first'., found"),
    (deviants.SendsMessagesTwice, "test_what_its_caller_gave_up_is_never_sent", "expected 'two', found 'next'"),
    (deviants.SwallowsInterrupts, "test_an_interrupt_cancels_the_tools_and_ends_the_request", "when its request ended"),
    (deviants.SwallowsInterrupts, "test_an_interrupt_cuts_the_models_work", "its text, and when it ended: expected"),
    (deviants.TakesRefusalsForGood, "test_a_message_that_is_refused_for_now_is_sent_again", "refused"),
    (deviants.LeavesATask, "test_ask_is_cancelled", "tasks after a cancellation at step None"),
    (deviants.LeavesATask, "test_message_is_cancelled", "tasks after a cancellation at step None"),
    (deviants.LeavesATask, "test_a_session_is_left_by_cancellation", "tasks after a cancellation at step None"),
    (deviants.HasNoHistory, "test_a_crash_at_any_event_changes_nothing", "the provider has sent: expected"),
    (
        deviants.HasNoHistory,
        "test_a_crash_at_any_moment_changes_nothing",
        "waits on tool calls|the provider has sent: expected",
    ),
    (deviants.HasNoHistory, "test_a_call_that_was_cut_off_by_a_crash_is_offered_again", "the calls and their attempts"),
    (
        deviants.NamesEventsAnew,
        "test_a_session_that_crashed_while_it_rested_goes_on",
        "terminals that were announced: expected",
    ),
    (
        deviants.TakesAnyOption,
        "test_an_option_that_nobody_knows_is_named",
        "expected a TypeError, but nothing was raised",
    ),
    (
        deviants.ChecksNothing,
        "test_content_that_cannot_be_sent_is_refused",
        "requests before and after|expected a Config",
    ),
    (
        deviants.LeavesNothing,
        "test_a_session_that_is_left_at_work_is_ended_as_asked",
        "what has become of it by on_exit=",
    ),
    (deviants.LosesMetadata, "test_the_callers_metadata_is_in_every_context", "expected ..'team': 'tests'.., found"),
    (deviants.AlwaysRests, "test_a_provider_that_is_quiet_for_long_is_waited_for", "its end: expected"),
    (deviants.AlwaysRests, "test_the_status_is_that_of_the_session", "expected that 'idle' says that it is at work"),
    (deviants.AlwaysWorks, "test_the_status_is_that_of_the_session", "the status at rest: expected 'idle'"),
    (deviants.TellsNoStatus, "test_the_status_is_that_of_the_session", "expected that None says that it is at work"),
    (deviants.RepeatsItself, "test_what_fails_is_not_sent_again_by_itself", "RefuseWith.*: expected 1, found 2"),
    (
        deviants.PostsUnderAShield,
        "test_what_is_under_way_is_given_up_with_its_caller",
        "ends when its caller is cancelled",
    ),
]
FOUND_OUT = [
    *((ClaudeSuite, claude_managed_agents, *each) for each in (*OF_CLAUDE, *OF_BOTH)),
    *((AgentCoreSuite, bedrock_agent_core, *each) for each in (*OF_AGENTCORE, *OF_BOTH)),
]


@pytest.mark.parametrize(
    ("place", "module", "deviant", "law", "words"),
    FOUND_OUT,
    ids=[f"{place.__name__}-{deviant.__name__}-{law}" for place, _, deviant, law, _ in FOUND_OUT],
)
def test_a_provider_that_breaks_a_law_is_found_out(
    place: type[ProviderSuite], module: Any, deviant: type[deviants.Wrapped], law: str, words: str
) -> None:
    suite = type("Suite", (place,), {"provider": deviant(module)})()
    with pytest.raises(Exception, match=words):  # the words are those of one law
        getattr(suite, law)()


def test_every_law_is_broken_by_somebody() -> None:
    laws = {name for name in dir(ProviderSuite) if name.startswith("test_")}
    assert laws == {law for *_, law, _ in FOUND_OUT}


def test_a_provider_without_a_status_says_so() -> None:
    class Suite(ClaudeSuite):
        provider: ClassVar[Any] = deviants.TellsNoStatus(claude_managed_agents)
        tells_status = False

    Suite().test_the_status_is_that_of_the_session()


def test_a_server_without_faults_skips_their_laws() -> None:
    class Suite(ClaudeSuite):
        message_operation = stream_operation = None  # type: ignore[assignment]  # as the suite itself has it

    for law in (
        Suite().test_a_message_that_is_refused_for_now_is_sent_again,
        Suite().test_a_stream_that_drops_harms_its_request_at_most,
        Suite().test_what_fails_is_not_sent_again_by_itself,
        Suite().test_what_is_under_way_is_given_up_with_its_caller,
    ):
        with pytest.raises(unittest.SkipTest, match="no fault plans"):
            law()


def test_a_server_that_cannot_tell_skips_what_depends_on_it() -> None:
    class Suite(ClaudeSuite):
        blind = True

    for law, words in (
        (Suite().test_a_session_is_made_once, "how many sessions"),
        (Suite().test_a_session_that_is_left_at_work_is_ended_as_asked, "what becomes of a session"),
        (Suite().test_the_history_is_whole, "what it has sent"),
        (Suite().test_the_callers_metadata_is_in_every_context, "no metadata"),
    ):
        with pytest.raises(unittest.SkipTest, match=words):
            law()
    Suite().test_every_event_is_recorded_once_and_shown_as_it_comes()
    Suite().test_a_way_to_leave_is_taken_or_refused()


def test_a_suite_says_where_its_sessions_run() -> None:
    with pytest.raises(NotImplementedError, match="open"):
        ProviderSuite().test_a_request_runs_to_its_end()
