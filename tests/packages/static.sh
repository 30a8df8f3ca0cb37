# static.sh - runs in a directory with the static programs and busybox, without any library: publishes and reads an image.
set -eu
export HOME=/root PATH=/bin
busybox="/bin/busybox"
$busybox mkdir -p /root /tmp
cd /root
$busybox dd if=/dev/urandom of=some.img bs=1M count=4 2>/dev/null
hfl publish some.img --to public/ --quiet
hfl serve public --listen 127.0.0.1:0 >serving &
for _ in 1 2 3 4 5 6 7 8 9 10; do $busybox grep -q http serving && break; $busybox sleep 0.3; done
port=$($busybox sed -n 's,.*http://127.0.0.1:\([0-9]*\).*,\1,p' serving)
key=$($busybox tail -n 1 .config/hfl/keys/some.pub)
# The name is one of /etc/hosts: a static program finds it without the C library's plug-ins.
hfl restore "http://image.test:$port/some" back.img --key "$key" --quiet
$busybox cmp some.img back.img
hfl-mount fetch --key "$key" "http://image.test:$port/some" --cache /root/cache >/dev/null
echo "published, served, restored and fetched without libraries"
