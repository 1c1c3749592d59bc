"""The conformance suite: checks that an agent, behind its server, behaves as every OpenAI client expects.

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
from .disconnects import DisconnectChecks
from .failures import FailureChecks
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
    DisconnectChecks,
):
    """Subclass it with a name that begins with `Test`, and set `agent`; `Examination` lists the other settings.

    The docstring of each check says what is checked, and how to fix an agent that fails. A check that does not apply to this
    agent is skipped with the reason.
    """
