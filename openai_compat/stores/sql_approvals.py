"""Approvals in SQL: each is decided once, by one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .engine import Row, Statement, Transaction
from .port import Approval, Key
from .sql_part import SqlPart, autocommit
from .sql_text import key_columns, string, string_or_none, text, text_or_none

COLUMNS = "id, created, expires, turn, agent, call_id, conversation, tool, arguments, digest, state, status, decision, request"
PENDING = "status = 'pending' and expires > {now}"
READ_COLUMNS = COLUMNS.replace(
    "status", "case when status = 'pending' and expires <= {now} then 'expired' else status end as status"
)


def write_approvals(principal: str, approvals: Sequence[Approval]) -> Statement:
    """Insert approvals, in this order. An existing one is left unchanged: the answer to its insert was lost."""
    rows = [_columns(principal, approval) for approval in approvals]
    numbers = [range(number * len(row) + 1, (number + 1) * len(row) + 1) for number, row in enumerate(rows)]
    values = ", ".join([f"({', '.join([f'${n}' for n in row])})" for row in numbers])
    return (
        f"insert into oc_approval (principal, {COLUMNS}) values {values} on conflict (principal, id) do nothing",
        [value for row in rows for value in row],
    )


def _columns(principal: str, approval: Approval) -> tuple[object, ...]:
    return (
        *key_columns(Key(principal, approval.id)),
        approval.created,
        approval.expires,
        text(approval.turn),
        text(approval.agent),
        text(approval.call_id),
        text_or_none(approval.conversation),
        text(approval.tool),
        text(approval.arguments),
        approval.digest,
        approval.state,
        approval.status,
        approval.decision,
        approval.request,
    )


class SqlApprovals(SqlPart):
    """ApprovalStore on an engine, with a row for each approval."""

    @autocommit
    def ask(self, principal: str, approval: Approval) -> Transaction[None]:
        yield write_approvals(principal, [approval])

    @autocommit
    def approval(self, key: Key) -> Transaction[Approval | None]:
        rows = yield f"select {READ_COLUMNS} from oc_approval where principal = $1 and id = $2", key_columns(key)
        return _to_approval(rows[0]) if rows else None

    @autocommit
    def approvals(self, principal: str, conversation: str | None = None) -> Transaction[Sequence[Approval]]:
        narrowed, parameters = "", [text(principal)]
        if conversation is not None:
            narrowed = "and conversation = $2"
            parameters.append(text(conversation))
        statement = f"select {READ_COLUMNS} from oc_approval where principal = $1 and {PENDING} {narrowed} order by n"
        rows = yield statement, parameters
        return [_to_approval(row) for row in rows]

    @autocommit
    def decide(self, key: Key, status: Literal["approved", "denied"], decision: str) -> Transaction[bool]:
        """Decide a pending approval. Of several concurrent requests, the one whose statement finds it pending wins."""
        rows = yield (
            f"""update oc_approval set status = $3, decision = $4 where principal = $1 and id = $2 and {PENDING}
            returning id""",
            (*key_columns(key), status, decision),
        )
        return bool(rows)


def _to_approval(row: Row) -> Approval:
    id_, created, expires, turn, agent, call_id, conversation, tool, arguments, *rest = row
    digest, state, status, decision, request = rest
    return Approval(
        id=string(id_),
        created=created,
        expires=expires,
        turn=string(turn),
        agent=string(agent),
        call_id=string(call_id),
        conversation=string_or_none(conversation),
        tool=string(tool),
        arguments=string(arguments),
        digest=digest,
        state=state,
        status=status,
        decision=decision,
        request=request,
    )
