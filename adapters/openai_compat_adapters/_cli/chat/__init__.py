"""`openai-compat chat`: a conversation with an agent in the terminal.

`session` runs turns: a `talk` asks the server and says what comes as `answer_events`; a display shows these; `questions` has
people decide. `typing` reads what they write, `slash_commands` obeys what is meant for the program.
"""
