"""`openssl s_client` as somebody at a terminal uses it: both versions of TLS, a session taken up again, and what is refused."""

import os
import subprocess
import tempfile

from common import arguments, check, equal, run

options = arguments()
DIALOGUE = b"set k 5 0 5\r\nvalue\r\nget k\r\nmg k v\r\nversion\r\nquit\r\n"
REPLY = b"STORED\r\nVALUE k 5 5\r\nvalue\r\nEND\r\nVA 5\r\nvalue\r\nVERSION "


def s_client(*words, quiet=True):
    """What it prints when the dialogue is typed in, and how it ends."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{options.port}", "-CAfile", options.ca]
    command += ["-verify_return_error", "-verify_ip", "127.0.0.1", "-ign_eof", *words]
    if quiet:
        command.append("-quiet")
    done = subprocess.run(command, input=DIALOGUE, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout


def versions():
    for version in ("-tls1_2", "-tls1_3"):
        code, printed = s_client(version)
        equal(code, 0, version)
        check(printed.startswith(REPLY), version, printed)


def suites():
    code, printed = s_client("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305")
    check(code == 0 and printed.startswith(REPLY), "a suite of 1.2", printed)
    code, printed = s_client("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256")
    check(code == 0 and printed.startswith(REPLY), "a suite of 1.3", printed)
    code, printed = s_client("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA")
    check(code != 0 and REPLY not in printed, "a suite without authentication of what it encrypts", printed)


def old_versions():
    # An openssl without the version refuses by itself.
    code, printed = s_client("-tls1_1")
    check(code != 0 and REPLY not in printed, "TLS 1.1", printed)


def sessions():
    with tempfile.TemporaryDirectory() as folder:
        kept = os.path.join(folder, "session")
        for version in ("-tls1_2", "-tls1_3"):
            code, printed = s_client(version, "-sess_out", kept, quiet=False)
            check(code == 0 and b"\nNew, TLSv1." in printed and REPLY in printed, version, printed)
            code, printed = s_client(version, "-sess_in", kept, quiet=False)
            check(code == 0 and b"\nReused, TLSv1." in printed and REPLY in printed, version, printed)


def strangers():
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{options.port}", "-verify_return_error", "-quiet"]
    done = subprocess.run(command, input=DIALOGUE, capture_output=True, timeout=60, check=False)
    check(done.returncode != 0, "a certificate that nobody vouches for")


run([versions, suites, old_versions, sessions, strangers])
