"""An agent that asks before it acts. On its page you can allow once or always, deny, or edit the arguments.

Serve it:   openai-compat serve approvals.py
Open it:    http://127.0.0.1:8083/ui/, and say where you want to eat
"""

import json

from openai_compat import RunContext


async def agent(prompt: str, context: RunContext):
    """Books a table, if you allow it."""
    wanted = json.dumps({"restaurant": prompt, "guests": 2})
    yield "I can book that. "
    decision = await context.approve("book_table", wanted)
    if decision.approved:
        table = json.loads(decision.arguments or wanted)
        yield f"Booked: {table['restaurant']}, for {table['guests']}."
    else:
        yield f"Nothing is booked{f': {decision.reason}' if decision.reason else ''}."
