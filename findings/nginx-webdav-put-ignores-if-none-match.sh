#!/usr/bin/env bash
# nginx: the WebDAV module ignores the preconditions of a PUT and overwrites; `Overwrite: F` of a MOVE is honoured.
#
# Version: nginx 1.22.1-9+deb12u11 (Debian 12), ngx_http_dav_module as built in.
# Behaviour: for a GET, nginx evaluates If-None-Match and If-Match. For a PUT it evaluates none of `If-None-Match: *`, `If-Match`
#   and `If-Unmodified-Since`: the file is replaced, and the answer is 204, which is also the answer to a PUT that was allowed
#   to replace it. Two writers who both create a lock file or a new version with `If-None-Match: *` therefore both believe that
#   they were first, and nothing in the answers tells. For a MOVE, `Overwrite: F` is evaluated: 412 and the old content stays.
#   So "create only if absent" is a PUT under a temporary name and a MOVE with `Overwrite: F`.
# Output seen:
#   GET with If-Match: "stale": 412
#   PUT with If-None-Match: *: 204, replaced
#   PUT with If-Match: "stale": 204, replaced
#   PUT with If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT: 204, replaced
#   MOVE with Overwrite: F onto a file: 412, kept
#   MOVE with Overwrite: F onto a new name: 204
#
# Needs apt-get, curl, python3 (to find a free port).
set -euo pipefail
work=$(mktemp -d)
pid=
end() {
  [ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true
  rm -rf "$work"
}
trap end EXIT
cd "$work"
chmod 755 .
apt-get download -q nginx=1.22.1-9+deb12u11 >/dev/null 2>&1 || { echo "this version of nginx cannot be had" >&2; exit 1; }
dpkg -x nginx_*.deb .

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir root temporary
cat >nginx.conf <<END
daemon off;
master_process off;
pid $work/pid;
error_log $work/error.log;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path $work/temporary/b;
  proxy_temp_path $work/temporary/p;
  fastcgi_temp_path $work/temporary/f;
  uwsgi_temp_path $work/temporary/u;
  scgi_temp_path $work/temporary/s;
  server {
    listen 127.0.0.1:$port;
    root $work/root;
    location / { dav_methods PUT DELETE MKCOL COPY MOVE; }
  }
}
END
usr/sbin/nginx -c "$work/nginx.conf" -e "$work/error.log" &
pid=$!
url=http://127.0.0.1:$port
for _ in $(seq 100); do
  curl -s -o answer "$url/" && break
  sleep 0.1
done

# request CURL_ARGUMENTS: the status of the answer.
request() { curl -s -o answer -w '%{http_code}' "$@"; }
# put NAME CONTENT CURL_ARGUMENTS
put() { request -X PUT --data-binary "$2" "${@:3}" "$url/$1"; }
# move FROM TO: without permission to overwrite.
move() { request -X MOVE -H "Destination: $url/$2" -H 'Overwrite: F' "$url/$1"; }
expect() { [ "$2" = "$3" ] || { echo "$1: $2 instead of $3" >&2; exit 1; }; }

expect "PUT of a new file" "$(put pointer one)" 201
expect "GET with a stale If-Match" "$(request -H 'If-Match: "stale"' "$url/pointer")" 412
echo 'GET with If-Match: "stale": 412'
for header in 'If-None-Match: *' 'If-Match: "stale"' 'If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT'; do
  expect "PUT with $header" "$(put pointer "$header" -H "$header")" 204
  expect "content" "$(cat root/pointer)" "$header"
  echo "PUT with $header: 204, replaced"
done
expect "PUT of a new file" "$(put pointer.new two)" 201
expect "MOVE onto a file" "$(move pointer.new pointer)" 412
expect "content" "$(cat root/pointer)" "$header"
echo "MOVE with Overwrite: F onto a file: 412, kept"
expect "MOVE onto a new name" "$(move pointer.new pointer.2)" 204
expect "content" "$(cat root/pointer.2)" two
echo "MOVE with Overwrite: F onto a new name: 204"
