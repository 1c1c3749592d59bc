"""An ACP agent program for the backend to start: passes its standard streams to a forked process. See acp.py.

python acp_program.py SOCKET AGENT
"""

import socket
import sys

with socket.socket(socket.AF_UNIX) as starter:
    starter.connect(sys.argv[1])
    socket.send_fds(starter, [sys.argv[2].encode()], [0, 1, 2])
    starter.recv(1)  # until the forked process ends
