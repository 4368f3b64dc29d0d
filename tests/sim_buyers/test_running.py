"""The command itself: the ready line, TLS, control while it runs, and its end."""

import signal
import socket
import ssl
import subprocess
import sys

import pytest

from buyers_sim import profile


def test_the_ready_line_says_where_everyone_is(sim):
    ready = sim.ready
    assert ready["ready"] is True
    assert ready["urls"]["good"] == f"{ready['http']}/good"
    assert ready["urls"]["secure"] == f"{ready['https']}/secure"
    assert ready["urls"]["expired"] == f"{ready['expired_https']}/expired"
    assert "silent" in ready["buyers"]
    assert "silent" not in ready["status"]
    assert ready["secrets"] == {"sealed": "whsec_c2VjcmV0LW9mLXRoZS1zZWFsZWQtYnV5ZXI="}


def test_the_good_certificate_is_trusted_through_the_ca(sim, ping):
    assert sim.call("/secure/ping", ping("tls"), base="https").status == 200


def test_the_good_certificate_is_not_trusted_without_the_ca(sim):
    port = int(sim.ready["https"].rpartition(":")[2])
    trust = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"),
    ):
        trust.wrap_socket(raw, server_hostname="127.0.0.1")


def test_the_expired_certificate_is_refused_as_expired(sim):
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        sim.connect("expired_https")


def test_a_buyer_changes_while_it_runs_and_goes_back_to_its_profile(start, ping):
    sim = start("--profile", "quiet")
    assert sim.call("/acme/ping", ping()).status == 200
    changed = sim.call("/control/acme", {"ping": {"hang": 1.0}, "late_ms": 5})
    assert (changed.status, changed.json()["ping"]["hang"]) == (200, 1.0)
    with pytest.raises(TimeoutError):
        sim.call("/acme/ping", ping(), timeout=0.1)
    assert sim.call("/control/acme", method="DELETE").json()["ping"]["hang"] == 0.0
    assert sim.call("/acme/ping", ping()).status == 200
    stats = sim.call("/control/stats", method="GET").json()
    assert stats["acme"] == {"ping": {"bid": 2, "hung": 1}}
    assert stats["beacon"] == {}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/control/good", {"ping": {"hang": 2.0}}, 422),
        ("/control/good", {"typo": 1}, 422),
        ("/control/good", b"[]", 422),
        ("/control/nobody", {}, 404),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(sim, ping, path, body, status):
    assert sim.call(path, body).status == status
    assert sim.call("/good/ping", ping("still good")).json()["bid"]


def test_tenfold_plays_every_buyer_several_times(start, ping):
    sim = start("--profile", "quiet", "--tenfold", "2")
    assert {"acme", "acme-2", "lumen-2"} <= set(sim.ready["buyers"])
    assert sim.call("/acme-2/ping", ping()).status == 200


def test_an_unknown_profile_is_refused_with_the_names_of_the_known():
    command = [sys.executable, "-m", "buyers_sim", "--profile", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert all(name in done.stderr for name in profile.names())


def test_it_dies_with_its_parent(tmp_path):
    """The child inherits the pipe: its end is the end of the pipe."""
    child = [sys.executable, "-m", "buyers_sim", "--die-with-parent", "--truth-dir", str(tmp_path)]
    parent = f"import subprocess, time; subprocess.Popen({child!r}); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b'{"ready":true')
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == b""
