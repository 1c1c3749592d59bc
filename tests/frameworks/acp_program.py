"""An agent program of ACP, as a backend starts it: its streams go to one that was forked for it. See acp.py.

python acp_program.py SOCKET AGENT
"""

import socket
import sys

with socket.socket(socket.AF_UNIX) as starter:
    starter.connect(sys.argv[1])
    socket.send_fds(starter, [sys.argv[2].encode()], [0, 1, 2])
    starter.recv(1)  # until that has ended
