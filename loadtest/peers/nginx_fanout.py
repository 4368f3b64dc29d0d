"""The bare fan-out on nginx and Lua: `capture_multi` over upstreams with kept-alive connections.

    python -m loadtest.peers.nginx_fanout --ports 8001,8002 --folder /tmp/x [--tmax-ms 1500]

One nginx worker; the configuration and the Lua stand in `loadtest/peers/nginx/`. It is not slowed
on purpose: no log, an upstream and a static location per buyer, bodies and answers held in memory.
The deadline is nginx's own: so long per read, not for the whole auction, which costs it less.
"""

import argparse
import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

SOURCES = Path(__file__).with_name("nginx")
MODULES = Path("/usr/lib/nginx/modules")
"""Where Debian's packages put modules."""
IDLE = 256
"""Kept-alive connections to a buyer."""
START_S = 10.0


def configuration(ports: list[int], *, listen: int, folder: Path, tmax_ms: int) -> str:
    """`nginx.conf` filled in."""
    filled = {
        "modules": str(MODULES),
        "user": "user root;" if os.geteuid() == 0 else "",
        "folder": str(SOURCES),
        "port": str(listen),
        "tmax_ms": str(tmax_ms),
        "buyers": str(len(ports)),
        "upstreams": "\n    ".join(
            f"upstream buyer{number} {{ server 127.0.0.1:{port}; keepalive {IDLE};"
            f" keepalive_requests 1000000000; keepalive_time 1d; }}"
            for number, port in enumerate(ports, 1)
        ),
        "asks": "\n        ".join(
            f"location = /ask/{number} {{ internal; proxy_pass http://buyer{number}/ping; }}"
            for number in range(1, len(ports) + 1)
        ),
    }
    text = (SOURCES / "nginx.conf").read_text(encoding="utf-8")
    for word, value in filled.items():
        text = text.replace(f"@{word}@", value)
    return text


def free_port() -> int:
    """A port that was free a moment ago: nginx cannot say which it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def worker_of(master: int, port: int) -> int | None:
    """The pid of the one worker once it answers; `None` before. The master listens first and forks
    then, so a connection alone says nothing."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def serve(spec: argparse.Namespace) -> int:
    """Serve until told to stop; nginx's exit code."""
    folder, port = Path(spec.folder), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    ports = [int(one) for one in spec.ports.split(",")]
    file = folder / "nginx.conf"
    file.write_text(configuration(ports, listen=port, folder=folder, tmax_ms=spec.tmax_ms))
    command = [spec.nginx, "-p", str(folder), "-c", str(file), "-e", "stderr", "-g", "daemon off;"]
    with subprocess.Popen(command, preexec_fn=_die_with_parent) as nginx:
        signal.signal(signal.SIGTERM, lambda *_: nginx.terminate())
        until = time.monotonic() + START_S
        worker = None
        while worker is None and nginx.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
            worker = worker_of(nginx.pid, port)
        if worker is None:
            nginx.terminate()
        else:
            print(json.dumps({"pid": worker, "port": port}), flush=True)
        return nginx.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--nginx", default="/usr/sbin/nginx")
    parser.add_argument("--tmax-ms", type=int, default=1500)
    raise SystemExit(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
