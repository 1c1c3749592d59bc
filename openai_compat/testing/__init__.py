"""Tools for your own tests: a scripted agent, fault injection for agents, recorded exchanges, and the conformance suite.

The public names are those in `__all__`, and those of `openai_compat.testing.strategies`, which needs hypothesis.
Real openai clients that talk to an agent in the same process are in `openai_compat_adapters.testing`.
"""

from .answer import Answer
from .conformance import Conformance
from .conformance.base import Examination
from .conformance.messages import MessagesConformance
from .conformance.ollama import OllamaConformance
from .faults import leave_at, raise_at, slow
from .model import HANG, ModelRequest, ScriptedModel
from .recording import RecordedExchange, Recording
from .scripted import Gate, ScriptedBackend
from .watch import Run, Watched
from .wrapping import Wrapper

__all__ = (
    "HANG",
    "Answer",
    "Conformance",
    "Examination",
    "Gate",
    "MessagesConformance",
    "ModelRequest",
    "OllamaConformance",
    "RecordedExchange",
    "Recording",
    "Run",
    "ScriptedBackend",
    "ScriptedModel",
    "Watched",
    "Wrapper",
    "leave_at",
    "raise_at",
    "slow",
)
