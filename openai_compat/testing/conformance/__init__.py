"""The conformance suite: is this agent, behind its server, what every OpenAI client expects?

```python
class TestMyAgent(Conformance):
    agent = my_agent
```

or, without a file, `pytest --openai-compat package.module:my_agent`.
"""

from __future__ import annotations

from .answers import AnswerChecks
from .approvals import ApprovalChecks
from .contract import ContractChecks
from .failures import FailureChecks
from .leaving import LeavingChecks
from .requests import RequestChecks
from .responses import ResponsesChecks
from .sessions import SessionChecks
from .streams import StreamChecks
from .tools import ToolChecks


class Conformance(
    StreamChecks,
    AnswerChecks,
    RequestChecks,
    ToolChecks,
    ContractChecks,
    ApprovalChecks,
    SessionChecks,
    ResponsesChecks,
    FailureChecks,
    LeavingChecks,
):
    """Subclass it with a name that begins with `Test`, and set `agent`; `Examination` says what else can be set.

    Every check says in its docstring what is wrong when it fails, and how to mend it. A check that says nothing about
    this agent is skipped with the reason.
    """
