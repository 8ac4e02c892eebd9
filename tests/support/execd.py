"""A stand-in for ossec-execd and wazuh-execd: starts responses as the real ones do.

Orders come as lines of JSON on stdin, each is answered with one line on stdout. What
it imitates: pipes and one fgets for Wazuh (one line read, a reply, stdin left open, a
wait for the exit), argv and no wait for OSSEC, a list of timeouts in memory, `delete`
for all of it on SIGTERM, nothing at all on SIGKILL.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

HOME = sys.argv[1]

# Pending undos: key -> (how to run the delete, seconds, since).
pending = {}

# OSSEC leaks its queue's socket to what it starts; both leave SIGHUP ignored.
leak = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
leak.set_inheritable(True)
signal.signal(signal.SIGHUP, signal.SIG_IGN)


def start(argv, cwd, blocked=False, **pipes):
    def child():
        os.umask(0)
        if blocked:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    environment = {"PATH": "/attacker", "LD_PRELOAD": "", "SECRET": "hunter2"}
    return subprocess.Popen(
        argv, cwd=cwd, env=environment, close_fds=False, preexec_fn=child,
        stderr=subprocess.DEVNULL, **pipes)


def line_of(message):
    return (json.dumps(message, separators=(",", ":")) + "\n").encode()


def status(child):
    code = child.wait()
    return code if code >= 0 else f"signal {-code}"


def wazuh(order):
    """One alert, as ExecdRun handles it. `reply` and `write` make it misbehave."""
    name = order["executable"]
    program = f"active-response/bin/{name}"
    message = order["message"]
    began = time.monotonic()
    child = start([program], HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    told = {"pid": child.pid}
    if order.get("write", True):
        os.write(child.stdin.fileno(), line_of(message)) if len(line_of(message)) < 60000 \
            else (child.stdin.write(line_of(message)), child.stdin.flush())
    line = child.stdout.readline(8192)
    told["line"] = line.decode()
    if "look" in order:
        told["look"] = look(child.pid)
    if line:
        told["keys"] = json.loads(line)["parameters"]["keys"]
        key = "-".join([name, *told["keys"]])
        word = order.get("reply", "continue")
        if word == "continue" and key in pending:
            word = "abort"
            pending[key][2] = time.monotonic()
        elif order.get("timeout"):
            delete = dict(message, command="delete")
            if "wazuh" in message:
                delete["command"] = "disable"
            pending[key] = [lambda blocked: undo_wazuh(program, delete, blocked), order["timeout"],
                            time.monotonic()]
        told["reply"] = word
        if word == "close":
            child.stdin.close()
        elif word == "garbage":
            child.stdin.write(b"what?\n")
            child.stdin.flush()
        elif word != "silence":
            child.stdin.write(line_of(dict(message, command=word)))
            child.stdin.flush()
            child.stdin.close()
    told["status"] = status(child)
    told["seconds"] = time.monotonic() - began
    return told


def undo_wazuh(program, delete, blocked):
    child = start([program], HOME, blocked, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    child.stdin.write(line_of(delete))
    child.stdin.flush()
    return status(child)


def ossec_start(executable, words, blocked=False):
    program = f"{HOME}/active-response/bin/{executable}"
    return start([program, *words], "/", blocked, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def ossec(order):
    """Messages of OSSEC, all at once: nothing is waited for before all have begun."""
    children = []
    told = []
    for words in order["messages"]:
        key = f"{order['executable']} {words[2]}"
        if key in pending:
            pending[key][2] = time.monotonic()
            continue
        began = time.monotonic()
        children.append((began, words, ossec_start(order["executable"], words)))
        if order.get("timeout"):
            delete = ["delete", *words[1:]]
            pending[key] = [lambda blocked, d=delete: status(ossec_start(order["executable"], d, blocked)),
                            order["timeout"], began]
    if not order.get("wait", True):
        return [child.pid for _, _, child in children]
    waiting = {child.pid: (began, words) for began, words, child in children}
    while waiting:
        pid, code = os.waitpid(-1, 0)
        began, words = waiting.pop(pid)
        told.append({"srcip": words[2], "status": os.waitstatus_to_exitcode(code),
                     "seconds": time.monotonic() - began})
    return told


def look(pid):
    """What a started response still has of its execd."""
    def fields(name):
        for line in open(f"/proc/{pid}/status"):
            if line.startswith(name):
                return line.split()[1]

    links = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            links[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            pass
    mine = os.readlink(f"/proc/self/fd/{leak.fileno()}")
    return {"fds": sorted(links.values()), "leaked": mine in links.values(),
            "blocked": fields("SigBlk"), "umask": fields("Umask"),
            "environ": open(f"/proc/{pid}/environ", "rb").read().decode()}


def tick(_):
    """The scan for what is over."""
    over = [key for key, (_, seconds, since) in pending.items() if time.monotonic() - since > seconds]
    return [pending.pop(key)[0](False) for key in over]


def shutdown(*_):
    for run, _, _ in list(pending.values()):
        run(True)
    os._exit(1)


signal.signal(signal.SIGTERM, shutdown)
ORDERS = {"wazuh": wazuh, "ossec": ossec, "tick": tick}
for text in sys.stdin:
    order = json.loads(text)
    print(json.dumps(ORDERS[order["op"]](order)), flush=True)
