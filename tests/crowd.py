"""Programs of a test that must do without this tree, as they run in a guest too: ``python3 -c SOURCE …``."""

#: ``FOLDER``: processes with the names on standard input, each ended by a NUL; each holds a file of that
#: name in the folder, every other one by a mapping alone. Says their ids; they end with their parent.
CROWD = """
import ctypes, mmap, os, signal, sys

folder, names = os.fsencode(sys.argv[1]), sys.stdin.buffer.read().split(b"\\0")[:-1]
libc, children = ctypes.CDLL(None), []
for number, name in enumerate(names):
    ready, there = os.pipe()
    child = os.fork()
    if not child:
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        libc.prctl(15, name, 0, 0, 0)  # PR_SET_NAME
        path = folder + b"/" + str(number).encode() + name.replace(b"/", b"-")
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(file, b"x")
        kept = mmap.mmap(file, 1)
        if number % 2:
            os.close(file)
        os.write(there, b"x")
        signal.pause()
    os.read(ready, 1)
    children.append(child)
print(*children, flush=True)
signal.pause()
"""

#: ``PROGRAM ARGUMENT…``: runs it on a terminal of its own and passes on the bytes that this gets; ends with
#: its exit status.
TERMINAL = """
import os, pty, sys, termios, tty

child, terminal = pty.fork()
if not child:
    tty.setraw(1, termios.TCSANOW)
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try:
        said = os.read(terminal, 1 << 16)
    except OSError:  # EIO: it has ended
        break
    while said:
        said = said[os.write(1, said) :]
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
