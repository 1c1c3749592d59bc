"""`openai-compat chat`: a conversation with an agent in the terminal.

`session` runs turns: `responses_talk` or `completions_talk` sends a request and yields `answer_events`, a display shows them, and
`questions` asks the user. `prompt_reader` or `line_reader` reads input; `slash_commands` runs commands such as /help.
"""
