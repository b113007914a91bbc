"""What this process does about the open calls: each is taken up at most once, and dropped when it is closed.

The open calls themselves are the log's to know. A result in hand is kept until the log shows that its call is closed.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, TypeAlias

from ..._model import ToolResult, ToolUse
from ..effects import AskPolicy, CancelTool, Report, RunTool, Settle
from ..mail import Answer, Confirmation, PolicySpoke
from ..outbox import Stage
from .core import Core
from .handover import Handover
from .postman import Postman

Standing: TypeAlias = Literal["run", "gated", "left", "provider"]


class Calls:
    """The calls this process has taken up, or has left alone, by id.

    Attributes:
        running: Calls whose tool runs.
        left: Calls that are another client's.
        unanswerable: Gated calls that nobody here can decide.
        results: Results in hand.
        abandoned: Calls that are open and not to be taken up any more.
        begun: Calls that have been run here, or by a machine before this one, and are open.
    """

    # Dictionaries without values: most sessions have no open call, and an empty set takes three times the memory.
    __slots__ = (
        "_asked",
        "_core",
        "_given_again",
        "_postman",
        "_problems",
        "_taken",
        "abandoned",
        "begun",
        "left",
        "results",
        "running",
        "unanswerable",
    )

    def __init__(self, core: Core, postman: Postman, handover: Handover | None = None) -> None:
        self._core = core
        self._postman = postman
        self.abandoned: dict[str, None] = {} if handover is None else dict.fromkeys(handover.abandoned)
        self.begun: dict[str, None] = {} if handover is None else dict.fromkeys(handover.begun)
        # An answer or a verdict that was perhaps taken is in hand, and is looked up first.
        sent = () if handover is None else handover.answers_sent()
        decided = set() if handover is None else handover.verdicts_sent()
        self._taken = dict.fromkeys([*self.abandoned, *(answer.use.id for answer in sent), *decided])
        self._asked: dict[str, None] = {}
        self._problems: dict[str, str] = {}
        self.running: dict[str, None] = {}
        self.left: dict[str, None] = {}
        self.unanswerable: dict[str, None] = {}
        self.results: dict[str, ToolResult] = {answer.use.id: answer.result for answer in sent}
        self._given_again: Counter[str] = Counter()

    def standing(self, use: ToolUse) -> Standing:
        """Say whose an open call is: ours to run, gated until somebody allows it, another client's, the provider's."""
        # An unknown permission is a question nobody has answered yet.
        if use.permission not in (None, "allow", "deny"):
            return "gated"
        if use.kind == "custom" and use.permission != "deny":
            return "run" if self._core.settings.owns(use.name) else "left"
        return "provider"

    def is_busy(self, call_id: str) -> bool:
        """Whether something is being done about the call right here."""
        return call_id in self.running or (call_id in self._asked and call_id not in self.unanswerable)

    def note_problem(self, call_id: str, problem: str) -> None:
        """The call cannot be run, for this reason."""
        self._problems[call_id] = problem

    def take_up(self) -> None:
        """Begin with every open call that nobody has begun with."""
        for use in self._core.log.calls.values():
            if use.id in self._taken:
                continue
            standing = self.standing(use)
            if standing == "gated":
                self._take_up_gated(use)
            elif standing == "run":
                self._run(use)
            elif standing == "left" and use.id not in self.left:
                self.left[use.id] = None
                self._core.emit(Report("call_left_to_others", f"{use.name} ({use.id})"))

    def finished(self, call_id: str, result: ToolResult) -> None:
        """A tool has given its result: post it, unless nobody wants it any more."""
        use = self._core.log.calls.get(call_id)
        if use is not None and call_id in self.running:
            self._answer(use, result)

    def decided(self, mail: PolicySpoke) -> None:
        """The policy has given its verdict."""
        use = self._core.log.calls.get(mail.tool_use_id)
        if use is None or use.id not in self._asked:
            return
        if mail.verdict is None:
            self.unanswerable[use.id] = None
            return
        self._asked.pop(use.id, None)
        self._taken[use.id] = None
        if use.kind != "custom":
            self._core.outbox.add(Confirmation(use.id, mail.verdict, mail.message))
        elif mail.verdict == "allow":
            self._run(use)
        else:
            self._refuse(use, mail.message or "This call was denied.")

    def is_lost(self, call_id: str, *, patience: int) -> bool:
        """Whether the provider never got the result in hand, as far as that many repetitions can tell."""
        return call_id in self.results and self._given_again[call_id] < patience

    def post_again(self, use: ToolUse) -> None:
        """The provider never got the result in hand."""
        self._given_again[use.id] += 1
        self._core.reposted = True
        self._core.outbox.add(Answer(use, self.results[use.id]))

    def put_away(self, call_id: str) -> None:
        """The call is closed: whatever is still being done about it is in vain."""
        if call_id in self.begun:
            del self.begun[call_id]
            self._core.emit(Settle(call_id))
        self._let_go(call_id)
        self._taken.pop(call_id, None)
        self.abandoned.pop(call_id, None)
        self._problems.pop(call_id, None)

    def abandon(self) -> None:
        """Stop caring for every open call: none is taken up again."""
        for call_id in self._core.log.calls:
            self._let_go(call_id)
            self._taken[call_id] = None
            self.abandoned[call_id] = None

    def _let_go(self, call_id: str) -> None:
        if call_id in self.running:
            self._core.emit(CancelTool(call_id))
        for group in (self.running, self._asked, self.left, self.unanswerable):
            group.pop(call_id, None)
        self.results.pop(call_id, None)
        self._given_again.pop(call_id, None)
        for delivery in self._core.outbox.of_call(call_id):
            if delivery.stage is Stage.FLYING:
                delivery.seen = True  # however its request ends, it does not matter any more
            else:
                self._postman.accepted(delivery)

    def _take_up_gated(self, use: ToolUse) -> None:
        verdict = self._core.log.verdicts.get(use.id)
        if verdict is not None:
            if verdict == "allow" and use.kind == "custom":
                self._run(use)
        elif use.id not in self._asked:
            self._asked[use.id] = None
            if self._core.settings.has_policy:
                self._core.emit(AskPolicy(use))
            else:
                self.unanswerable[use.id] = None

    def _run(self, use: ToolUse) -> None:
        problem = self._problems.pop(use.id, None)
        if problem is not None:
            self._refuse(use, f"This call could not be run: {problem}.")
            return
        self._taken[use.id] = None
        self.running[use.id] = None
        self.begun[use.id] = None
        self._core.emit(RunTool(use))

    def _refuse(self, use: ToolUse, told: str) -> None:
        self._answer(use, ToolResult(tool_use_id=use.id, content=({"type": "text", "text": told},), is_error=True))

    def _answer(self, use: ToolUse, result: ToolResult) -> None:
        self._taken[use.id] = None
        self.running.pop(use.id, None)
        self.results[use.id] = result
        self._core.outbox.add(Answer(use, result))
