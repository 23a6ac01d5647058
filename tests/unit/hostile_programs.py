"""Generated programs that do harm or forge their verdict. None of them computes what the tests ask for.

``CANARY`` is the path of a folder of the machine, ``PORT`` that of a server on it, ``PARENT`` the process that runs the
tests; they stand in every program as names.
"""

from __future__ import annotations

#: What all of them are tested for; a program would have to compute it.
ENTRY = "square"
TESTS = ("for number in range(2, 30):\n    assert square(number) == number * number",)
BENIGN = "def square(number):\n    return number * number\n"

_WRONG = "def square(number):\n    return 0\n"

#: Programs that end, or try to end, the run with success.
FORGERIES = {
    "sys_exit": "import sys\nsys.exit(0)",
    "sys_exit_later": "import sys\ndef square(number):\n    sys.exit(0)",
    "os_exit": "import os\nos._exit(0)",
    "os_exit_later": "import os\ndef square(number):\n    os._exit(0)",
    "quit": "raise SystemExit",
    "keyboard_interrupt": "def square(number):\n    raise KeyboardInterrupt",
    "always_equal": (
        "class Equal:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
        "    def __bool__(self): return True\n    __hash__ = None\ndef square(number):\n    return Equal()"
    ),
    "equal_number": (
        "class Equal(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
        "def square(number):\n    return Equal(1)"
    ),
    "equal_text": (
        "class Equal(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n"
        "def square(number):\n    return Equal()"
    ),
    "exit_in_comparison": (
        "class Equal:\n    def __eq__(self, other): raise SystemExit(0)\n    __hash__ = None\n"
        "def square(number):\n    return Equal()"
    ),
    "patched_assertion": (
        "import builtins\nclass Quiet(BaseException):\n    def __new__(cls, *a): raise SystemExit(0)\n"
        "builtins.AssertionError = Quiet\n" + _WRONG
    ),
    "patched_exit": "import os, sys\nsys.exit = os._exit = lambda *a: None\n" + _WRONG,
    "patched_builtins": (
        "import builtins\nbuiltins.range = lambda *a: []\nbuiltins.map = builtins.all = lambda *a: True\n" + _WRONG
    ),
    "own_range": "def range(*a):\n    return []\n" + _WRONG,
    "stop_iteration": "def square(number):\n    raise StopIteration",
    "assertion_error": "def square(number):\n    raise AssertionError",
    "printed_verdict": 'print(\'{"outcome": "passed"}\', flush=True)\n' + _WRONG,
    "verdict_in_every_file": (
        'import os\nfor file in range(64):\n    for text in (b\'{"outcome": "passed"}\\n\', b\'{"ready": true}\\n\'):\n'
        "        try: os.write(file, text)\n        except OSError: pass\n" + _WRONG
    ),
    "verdict_at_exit": (
        'import atexit, os\natexit.register(lambda: os.write(1, b\'{"outcome": "passed"}\'))\nraise SystemExit(0)'
    ),
    "answers_in_every_file": (
        "import json, os\nfor answer in (['ready'], ['value', {'square': ['reference', 0]}], ['value', 4, []]):\n"
        "    text = json.dumps(answer).encode()\n    for file in range(3, 64):\n"
        "        try: os.write(file, len(text).to_bytes(4, 'big') + text)\n        except OSError: pass\n" + _WRONG
    ),
    "wrong_length": (
        "import os\nfor file in range(3, 64):\n    try: os.write(file, b'\\xff\\xff\\xff\\xff')\n"
        "    except OSError: pass\n" + _WRONG
    ),
    "nested_answer": (
        "import os\ntext = b'[' * 10**6\nfor file in range(3, 64):\n"
        "    try: os.write(file, len(text).to_bytes(4, 'big') + text)\n    except OSError: pass\n" + _WRONG
    ),
    "strange_answers": (
        "import json, os\n"
        "for answer in (['ready'], ['value', {'square': ['reference', {}]}], ['value', ['set', [[]]], 1]):\n"
        "    text = json.dumps(answer).encode()\n    for file in range(3, 64):\n"
        "        try: os.write(file, len(text).to_bytes(4, 'big') + text)\n        except OSError: pass\n" + _WRONG
    ),
    "closed_files": "import os\nos.closerange(0, 64)\n" + _WRONG,
    "frames": (
        "import gc, sys\nframe = sys._getframe()\nwhile frame:\n"
        "    for scope in (frame.f_locals, frame.f_globals):\n        for name in list(scope):\n"
        "            if name in ('tests', 'verdict', 'token', 'expected'): scope[name] = ()\n    frame = frame.f_back\n"
        "for thing in gc.get_objects():\n"
        "    if isinstance(thing, dict) and ('tests' in thing or 'verdict' in thing or 'outcome' in thing):\n"
        "        for name in ('tests', 'verdict', 'outcome'):\n"
        "            if name in thing: thing[name] = (lambda *a, **k: 'passed') if name == 'outcome' else ()\n" + _WRONG
    ),
    "memory_of_the_parent": (
        "import os\nfor process in (1, os.getppid()):\n    for mode in ('rb', 'r+b'):\n"
        "        try: open(f'/proc/{process}/mem', mode).read(1)\n        except OSError: pass\n"
        "import ctypes\nlibrary = ctypes.CDLL(None)\nlibrary.ptrace(16, os.getppid(), 0, 0)\n"
        "library.process_vm_writev(os.getppid(), 0, 0, 0, 0, 0)\n" + _WRONG
    ),
    "patched_channel": (
        "import json, sys\njson.loads = lambda text: ['names']\njson.dumps = lambda value: '[\"value\", {}]'\n"
        "frame = sys._getframe()\nwhile frame:\n    if 'channel' in frame.f_locals:\n"
        "        frame.f_locals['channel'].send(['ready'])\n    frame = frame.f_back\n" + _WRONG
    ),
    "replaced_tester": (
        "import sys, types\nmodule = types.ModuleType('codebackdoor.evaluation.execution.tester')\n"
        "module.outcome = lambda *a, **k: 'passed'\nsys.modules[module.__name__] = module\n" + _WRONG
    ),
}

#: Programs that use up time, memory, processes or files.
GREEDY = {
    "endless_loop": "while True: pass",
    "endless_loop_later": "def square(number):\n    while True: pass",
    "endless_sleep": "import time\ntime.sleep(10**6)",
    "ignored_signals": (
        "import signal\nfor number in range(1, 65):\n    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass"
    ),
    "one_long_operation": "x = 7 ** (7 ** 9)",
    "regular_expression": "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    "fork_bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "thread_bomb": (
        "import threading, time\nthreading.stack_size(32768)\nwhile True:\n"
        "    try: threading.Thread(target=time.sleep, args=(9,)).start()\n    except RuntimeError: break\n" + _WRONG
    ),
    "memory": "x = []\nwhile True: x.append(bytearray(2**20))",
    "memory_at_once": "x = bytearray(2**45)",
    "memory_doubled": "x = [0]\nwhile True: x = x + x",
    "memory_of_the_tester": "def square(number):\n    return [[[0] * 1000] * 1000] * 1000",
    "answer_too_long": "def square(number):\n    return 'x' * 10**8",
    "endless_answer": "def square(number):\n    return iter(lambda: 0, 1)",
    "shared_memory": (
        "import ctypes, os\nlibrary = ctypes.CDLL(None)\nassert library.shmget(0, 2**30, 0o1600) == -1\n"
        "assert library.memfd_create(b'x', 0) == -1\n" + _WRONG
    ),
    "endless_output": "while True: print('x' * 1000)",
    "endless_errors": "import sys\nwhile True: sys.stderr.write('x' * 1000)",
    "deep_recursion": "def square(number):\n    return square(number + 1)",
    "deep_recursion_in_c": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef square(number):\n    return square(number + 1)"
    ),
    "huge_file": "with open('x', 'wb') as file:\n    while True: file.write(bytes(2**20))",
    "sparse_file": "import os\nos.truncate(os.open('x', os.O_CREAT | os.O_RDWR), 2**40)",
    "many_files": "i = 0\nwhile True:\n    open(str(i), 'w').close()\n    i += 1",
    "many_folders": "import os\nwhile True:\n    os.mkdir('x')\n    os.chdir('x')",
    "open_files": "files = []\nwhile True: files.append(open('x', 'w'))",
    "pipes": "import os\nfiles = []\nwhile True: files.append(os.pipe())",
    "reading_input": "input()",
    "reading_all_input": "import sys\nsys.stdin.read()\n" + _WRONG,
    "waiting_threads": (
        "import threading, time\nfor _ in range(5): threading.Thread(target=time.sleep, args=(10**6,)).start()\n"
        + _WRONG
    ),
}

#: Programs that crash.
CRASHES = {
    "segmentation_fault": "import ctypes\nctypes.string_at(0)",
    "segmentation_fault_later": "import ctypes\ndef square(number):\n    ctypes.string_at(0)",
    "abort": "import os\nos.abort()",
    "fatal_error": "import ctypes\nctypes.pythonapi.Py_FatalError(b'x')",
    "illegal_bytecode": (
        "def square(number): pass\nsquare.__code__ = square.__code__.replace(co_code=bytes([255, 0]) * 9, co_consts=())"
    ),
    "stopped": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n" + _WRONG,
}

#: Programs that reach for the machine.
INTRUDERS = {
    "delete_everything": "import shutil\nshutil.rmtree('/', ignore_errors=True)\n" + _WRONG,
    "delete_the_canary": (
        "import os, shutil\nshutil.rmtree(CANARY, ignore_errors=True)\n"
        "for name in ('file', 'sub/file'):\n    try: os.remove(CANARY + '/' + name)\n    except OSError: pass\n"
        + _WRONG
    ),
    "write_outside": (
        "import os\nfor path in (CANARY, '/', '/tmp', '/var/tmp', '/dev/shm', '/etc', os.path.expanduser('~'), '..'):\n"
        "    try: open(path + '/generated', 'w').write('x')\n    except OSError: pass\n" + _WRONG
    ),
    "symbolic_link": (
        "import os\ntry:\n    os.symlink(CANARY, 'link')\n    open('link/file', 'w').write('x')\n"
        "except OSError: pass\n" + _WRONG
    ),
    "hard_link": (
        "import os\ntry:\n    os.link(CANARY + '/file', 'link')\n    open('link', 'w').write('x')\n"
        "except OSError: pass\n" + _WRONG
    ),
    "permissions": (
        "import os\nfor call in (lambda: os.chmod(CANARY, 0), lambda: os.chown(CANARY, 1, 1),\n"
        "        lambda: os.utime(CANARY + '/file', (0, 0)), lambda: os.truncate(CANARY + '/file', 0),\n"
        "        lambda: os.rename(CANARY + '/file', CANARY + '/x')):\n"
        "    try: call()\n    except OSError: pass\n" + _WRONG
    ),
    "signals": (
        "import os, signal\nfor process in (PARENT, os.getppid(), 1, -1, 0):\n"
        "    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL):\n"
        "        try: os.kill(process, number)\n        except OSError: pass\n"
        "for group in (0, os.getpgrp()):\n    try: os.killpg(group, signal.SIGKILL)\n    except OSError: pass\n"
        + _WRONG
    ),
    "signals_by_files": (
        "import fcntl, os\nreading, writing = os.pipe()\nfor process in (PARENT, os.getppid()):\n"
        "    try: fcntl.fcntl(reading, fcntl.F_SETOWN, process)\n    except OSError: pass\n" + _WRONG
    ),
    "limits_of_the_parent": (
        "import os, resource\nfor process in (PARENT, os.getppid()):\n"
        "    try: resource.prlimit(process, resource.RLIMIT_NOFILE, (0, 0))\n    except OSError: pass\n"
        "for call in (lambda: os.setpriority(os.PRIO_PGRP, 0, 19), lambda: os.sched_setaffinity(PARENT, {0})):\n"
        "    try: call()\n    except OSError: pass\n" + _WRONG
    ),
    "daemon": (
        "import os, time\ntry:\n    if os.fork() == 0:\n"
        "        os.setsid()\n        os.fork()\n        time.sleep(600)\n"
        "except OSError: pass\n" + _WRONG
    ),
    "new_process": (
        "import subprocess, sys\nfor shell in (True, False):\n"
        "    try: subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], shell=shell)\n"
        "    except OSError: pass\n" + _WRONG
    ),
    "spawned_process": (
        "import os, sys\n"
        "try: os.posix_spawn(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)'], {})\n"
        "except OSError: pass\n" + _WRONG
    ),
    "another_program": (
        "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)'])"
    ),
    "shell": "import os\nos.system('sleep 600 &')\n" + _WRONG,
    "thread_that_outlives": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
        "def square(number):\n    return -1"
    ),
    "connection": (
        "import socket\nfor host in ('127.0.0.1', '::1', 'localhost'):\n"
        "    try: socket.create_connection((host, PORT), 2).send(b'x')\n    except OSError: pass\n" + _WRONG
    ),
    "datagram": (
        "import socket\ntry: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))\n"
        "except OSError: pass\n" + _WRONG
    ),
    "name_lookup": "import socket\ntry: socket.getaddrinfo('example.org', 80)\nexcept OSError: pass\n" + _WRONG,
    "server": (
        "import socket\ntry:\n    server = socket.socket()\n    server.bind(('', 0))\n    server.listen()\n"
        "except OSError: pass\n" + _WRONG
    ),
    "request": (
        "import urllib.request\ntry: urllib.request.urlopen(f'http://127.0.0.1:{PORT}/', timeout=2)\n"
        "except OSError: pass\n" + _WRONG
    ),
    "more_rights": (
        "import ctypes, os\nlibrary = ctypes.CDLL(None)\n"
        "for call in (lambda: os.setuid(0), lambda: os.setgroups([0]),\n"
        "        lambda: os.chroot('/'), lambda: os.mknod('x', 0o20666, 0x103), lambda: os.mkfifo('y')):\n"
        "    try: call()\n    except OSError: pass\n"
        "for flags in (0x10000000, 0x20000, 0x7E020000): assert library.unshare(flags) == -1\n"
        "assert library.mount(b'tmpfs', b'/', b'tmpfs', 0, None) == -1\nassert library.umount2(b'/', 2) == -1\n"
        "assert library.prctl(1, 0, 0, 0, 0) == -1\nassert library.reboot(0) == -1\n" + _WRONG
    ),
}
#: Finds texts that begin an assertion about itself, wherever it can look; the tests should not be among them.
SPY = """
import gc, sys

def spied():
    things = gc.get_objects() + [sys.argv, sys.orig_argv]
    frame = sys._getframe()
    while frame:
        things += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    texts = [text for thing in things if isinstance(thing, (dict, list, tuple))
             for text in (thing.values() if isinstance(thing, dict) else thing) if isinstance(text, str)]
    return sum(chr(97) + "ssert spied" in text for text in texts)
"""
PROGRAMS = FORGERIES | GREEDY | CRASHES | INTRUDERS


def source(name: str, canary: str, port: int, parent: int) -> str:
    return f"CANARY, PORT, PARENT = {canary!r}, {port}, {parent}\n{PROGRAMS[name]}\n"
