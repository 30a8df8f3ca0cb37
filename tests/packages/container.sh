#!/usr/bin/env bash
# container.sh PACKAGES DEBIAN STORAGE - builds templates/package/Containerfile on a Debian that is in a directory, and runs it.
set -euo pipefail
packages=$1 debian=$2 storage=$3
project=$(cd "$(dirname "$0")/../.." && pwd)
buildah() { command buildah --root "$storage/root" --runroot "$storage/run" --storage-driver vfs "$@"; }

mkdir -p "$storage"
base=$(buildah from scratch)
buildah add --quiet "$base" "$debian" / >/dev/null
buildah commit --quiet "$base" localhost/debian >/dev/null
buildah rm "$base" >/dev/null
start=$SECONDS
buildah build --quiet --isolation chroot --network host --build-arg BASE=localhost/debian --tag localhost/hfl \
  --file "$project/templates/package/Containerfile" "$packages" >/dev/null
echo "built in $((SECONDS - start)) s"
container=$(buildah from localhost/hfl)
run() { buildah run --isolation chroot --user hfl "$container" -- "$@"; }
run sh -ec 'head -c 3000000 /dev/urandom >some.img; hfl publish some.img --to public/ --quiet; hfl verify --to ./public --quiet'
[ "$(buildah inspect --type image --format '{{.OCIv1.Config.Entrypoint}}' localhost/hfl)" = '[hfl]' ]
echo "published and verified in it"
buildah rm "$container" >/dev/null
