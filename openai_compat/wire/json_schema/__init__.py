"""JSON Schema (draft 2020-12) from strangers: nothing is fetched, no pattern is compiled, and no check is without end.

    schema = Schema({"type": "object", "required": ["name"]})     raises InvalidSchema
    schema.problem({"nom": "Ada"}, steps=10_000)                  "At $: 'name' is missing"; raises TooManySteps

Libraries for this trust the schema: they read what `$ref` names, compile its patterns, and follow `allOf` wherever it
leads. Here references lead to places within the schema or nowhere, each pair of a schema and a value is looked at once,
and what is looked at is counted. `$schema` is not obeyed, so that nothing depends on a document that is elsewhere.
"""

from .checking import TooManySteps as TooManySteps
from .references import InvalidSchema as InvalidSchema
from .references import References as References
from .references import WorkBudget as WorkBudget
from .schema import Schema as Schema
