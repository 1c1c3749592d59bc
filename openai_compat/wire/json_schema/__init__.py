"""Validates untrusted JSON Schemas (draft 2020-12): nothing is fetched, no pattern is compiled, and every check is bounded.

    schema = Schema({"type": "object", "required": ["name"]})     raises InvalidSchema
    schema.problem({"nom": "Ada"}, steps=10_000)                  "At $: 'name' is missing"; raises TooManySteps

Existing libraries trust the schema: they read the documents that `$ref` names, compile its patterns, and follow `allOf`
without limit. Here references resolve within the schema or not at all, each pair of schema and value is checked once,
and the checks are counted. `$schema` is ignored, so that nothing depends on a document that is elsewhere.
"""

from .checking import TooManySteps as TooManySteps
from .references import InvalidSchema as InvalidSchema
from .references import References as References
from .references import WorkBudget as WorkBudget
from .schema import Schema as Schema
