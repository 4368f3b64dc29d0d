"""Load an exchange of its own: `make load`, or `python -m loadtest.load --shape ramp --workers 2`.

Starts Postgres, Valkey, the exchange, simulated buyers and the example market on free ports, plays
the shape with Locust, and leaves `report.html`, `report.json` and `locust.html` in `build/load/`.
Everything started ends with it.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from loadtest.load import market as markets
from loadtest.load import notes, options
from loadtest.load.grounds import generator, grounds
from loadtest.load.shapes import SHAPES
from loadtest.load.troubles import troubles

REPORT_S = 60.0
"""What a load that is stopped may take for its report."""


def loaded(spec: argparse.Namespace) -> int:
    """Run it; the generator's exit code."""
    for left_over in (notes.RUN, notes.REQUESTS, notes.SAMPLES):
        (spec.to / left_over).unlink(missing_ok=True)
    sellers = sorted(markets.read(spec.market).sellers)
    setup = {
        "workers": str(spec.workers),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
        "market": spec.market.name,
    }
    with tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as made:
        print("starting the exchange, its servers and its buyers", flush=True)
        with grounds(
            Path(made), market=spec.market, workers=spec.workers, seed=spec.seed, sellers=sellers
        ) as where:
            print(f"{spec.shape}: {SHAPES[spec.shape].about} ({where.url})", flush=True)
            with troubles(where, spec.to):
                return _played(generator(where, _passed_on(spec), setup=setup))


def _passed_on(spec: argparse.Namespace) -> list[str]:
    given = ["--shape", spec.shape, "--seed", str(spec.seed), "--to", str(spec.to)]
    for name in ("rate", "seconds"):
        if getattr(spec, name) is not None:
            given += [f"--{name}", str(getattr(spec, name))]
    return [*given, "--verdict"] if spec.verdict else given


def _played(locust: "subprocess.Popen[bytes]") -> int:
    try:
        return locust.wait()
    except KeyboardInterrupt:
        locust.send_signal(signal.SIGINT)
        return locust.wait(REPORT_S)
    finally:
        locust.kill()
        locust.wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.load", description=__doc__)
    options.add_shape_to(parser, seed=7)
    parser.add_argument("--workers", type=int, default=1, help="workers of the exchange")
    spec = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: all that runs is ended
    spec.to = spec.to.absolute()
    spec.to.mkdir(parents=True, exist_ok=True)
    try:
        sys.exit(loaded(spec))
    except RuntimeError as failed:
        options.leave(str(failed))
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell says of Ctrl-C


if __name__ == "__main__":
    main()
