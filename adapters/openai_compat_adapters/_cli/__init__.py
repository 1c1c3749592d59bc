"""Commands of `openai-compat` and their options."""
