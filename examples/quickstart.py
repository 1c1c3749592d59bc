"""Serve the agent of hello.py and call it through the openai SDK.

Run it:   python examples/quickstart.py
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from openai import OpenAI

PROGRAM = Path(sys.executable).with_name("openai-compat")
TRY_IT = """
Now you. Serve it, and talk to it at http://127.0.0.1:8083/ui/

  {program} serve {agent}

or serve three others, which think, use tools and ask before they act:

  {program} demo
"""


def ask(base_url: str) -> None:
    client = OpenAI(base_url=base_url, api_key="none")
    stream = client.chat.completions.create(model="agent", messages=[{"role": "user", "content": "Ada"}], stream=True)
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def main() -> None:
    here = Path(__file__).parent
    command = [PROGRAM, "serve", "hello:agent", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=here, stderr=subprocess.PIPE, text=True) as server:
        try:
            said = []
            for line in server.stderr:
                said.append(line)
                if url := re.search(r"http://\S+/v1\b", line):
                    break
            else:
                sys.exit("".join(said))
            print(said[0], end="", flush=True)
            ask(url[0])
        finally:
            server.terminate()
    print(TRY_IT.format(program=os.path.relpath(PROGRAM), agent=f"{os.path.relpath(here / 'hello.py')}:agent"))


if __name__ == "__main__":
    main()
