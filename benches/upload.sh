#!/usr/bin/env bash
# benches/upload.sh - measures how fast a repository of about 500 MB of blocks is copied to a new mirror:
# hfl sync, rclone copy and aws s3 sync to one SeaweedFS; hfl sync and rclone copy to one OpenSSH by
# SFTP. Everything runs on this machine.
#
# The programs alternate, each run writes to a new place, and the best run of each counts, so the ratios
# hold on a loaded machine. hfl verifies every block before sending it; the others send files as they
# are. rclone's check of each file by a command over ssh is off, because it takes twenty times as long.
# Every program has at least 32 objects in flight. Needs weed, rclone, sshd and openssl (without aws its
# row is missing), in $HFL_SERVERS/bin or in PATH. HFL_BENCH_RUNS (5) is the number of runs of each
# program, HFL_BENCH_MB (500) the amount of data.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${HFL_BENCH_RUNS:-5}
megabytes=${HFL_BENCH_MB:-500}
port=${HFL_BENCH_PORT:-17640}
PATH=$PATH:${HFL_SERVERS:-/opt/hfl-servers}/bin:/usr/sbin:/sbin
for program in weed rclone sshd ssh-keygen openssl; do
  command -v "$program" > /dev/null || { echo "upload: skipped: no $program"; exit 0; }
done

cargo build --quiet --release --bin hfl
hfl=$PWD/${CARGO_TARGET_DIR:-target}/release/hfl

lab=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
  wait
  rm -rf "$lab"
}
trap cleanup EXIT
mkdir "$lab/home" "$lab/weed" "$lab/sftp"
cd "$lab"

# Random text of 64 letters: it compresses to three quarters.
openssl rand $((megabytes * 1000000)) | openssl base64 -A > image
printf '[[mirror]]\nname = "here"\nwrite = "./here"\n' > mirrors.toml
HOME=$lab/home "$hfl" publish image --to mirrors.toml --name bench --unsigned --quiet --split fixed
rm image
bytes=$(find here/blocks -type f -printf '%s\n' | awk '{all += $1} END {printf "%d", all}')
echo "$(find here/blocks -type f | wc -l) blocks, $((bytes / 1000000)) MB"

export AWS_ACCESS_KEY_ID=benchkey AWS_SECRET_ACCESS_KEY=benchsecret AWS_DEFAULT_REGION=us-east-1
cat > s3.json <<END
{"identities":[{"name":"admin","credentials":[{"accessKey":"$AWS_ACCESS_KEY_ID","secretKey":"$AWS_SECRET_ACCESS_KEY"}],
"actions":["Admin","Read","Write","List","Tagging"]}]}
END
weed server -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false -dir="$lab/weed" -master.port=$((port + 1)) \
  -volume.port=$((port + 2)) -filer.port=$((port + 3)) -master.volumeSizeLimitMB=1024 -volume.max=40 -s3 -s3.port="$port" \
  -s3.port.iceberg=0 -s3.port.lance=0 -s3.config="$lab/s3.json" > weed.log 2>&1 &
pids+=($!)

ssh-keygen -q -t ed25519 -N '' -f user_key
ssh-keygen -q -t ed25519 -N '' -f host_key
cp user_key.pub authorized_keys
mkdir -p /run/sshd
cat > sshd_config <<END
ListenAddress 127.0.0.1:$((port + 4))
HostKey $lab/host_key
AuthorizedKeysFile $lab/authorized_keys
PidFile none
UsePAM no
StrictModes no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
END
echo "[127.0.0.1]:$((port + 4)) $(cat host_key.pub)" > known_hosts
"$(command -v sshd)" -D -e -f "$lab/sshd_config" > sshd.log 2>&1 &
pids+=($!)

export RCLONE_CONFIG=$lab/rclone.conf
cat > rclone.conf <<END
[s3]
type = s3
provider = Other
env_auth = true
endpoint = http://127.0.0.1:$port
force_path_style = true
[sftp]
type = sftp
host = 127.0.0.1
port = $((port + 4))
user = $(id -un)
key_file = $lab/user_key
known_hosts_file = $lab/known_hosts
disable_hashcheck = true
END
export AWS_CONFIG_FILE=$lab/aws.conf
printf '[default]\ns3 =\n  max_concurrent_requests = 32\n  addressing_style = path\n' > aws.conf

for ((i = 0; i < 600; i++)); do
  if rclone mkdir s3:bench --retries 1 --low-level-retries 1 2> /dev/null; then break; fi
  sleep 0.1
done
rclone rcat s3:bench/ready < s3.json

# Copies the repository in mirrors.toml to one more mirror, whose table is read from standard input.
sync_to() {
  cat mirrors.toml - > "$1.toml"
  HOME=$lab/home "$hfl" sync --to "$1.toml" --unsigned --quiet
}
hfl_s3() {
  sync_to "$1" <<END
[[mirror]]
name = "new"
write = "s3://bench/$1"
endpoint = "http://127.0.0.1:$port"
read-back = false
END
}
rclone_s3() { rclone copy --transfers 32 here "s3:bench/$1"; }
aws_s3() { aws s3 sync --only-show-errors --endpoint-url "http://127.0.0.1:$port" here "s3://bench/$1"; }
hfl_sftp() {
  sync_to "$1" <<END
[[mirror]]
name = "new"
write = "sftp://$(id -un)@127.0.0.1:$((port + 4))$lab/sftp/$1"
identity = "$lab/user_key"
known-hosts = "$lab/known_hosts"
END
}
rclone_sftp() { rclone copy --transfers 32 here "sftp:$lab/sftp/$1"; }

# Fails unless all blocks are present, then deletes them.
check_s3() { rclone size --json "s3:bench/$1/blocks" | grep -q "\"bytes\":$bytes[,}]" && rclone purge "s3:bench/$1"; }
check_sftp() { rclone size --json "sftp/$1/blocks" | grep -q "\"bytes\":$bytes[,}]" && rm -rf "sftp/$1"; }

# Runs each of the programs in turn against a kind of mirror, and prints the results.
compare() {
  local kind=$1 program started took number
  declare -A best=()
  for ((number = 0; number < runs; number++)); do
    for program in "${@:2}"; do
      started=${EPOCHREALTIME/./}
      "${program}_$kind" "$program-$kind-$number"
      took=$((${EPOCHREALTIME/./} - started))
      "check_$kind" "$program-$kind-$number" || { echo "$program did not send everything"; exit 1; }
      if ((took < ${best[$program]:-took + 1})); then best[$program]=$took; fi
    done
  done
  for program in "${@:2}"; do
    awk -v kind="$kind" -v program="$program" -v us="${best[$program]}" -v bytes="$bytes" -v hfl="${best[hfl]}" 'BEGIN {
      printf "%-5s %-7s %6.2f s %6.0f MB/s", kind, program, us / 1e6, bytes / us
      if (program == "hfl") { print ""; exit }
      printf "  %s  hfl takes %.2f of its time (wanted: at most 1.0)\n", hfl <= us ? "PASS" : "FAIL", hfl / us
    }'
    if ((best[hfl] > best[$program])); then failed=1; fi
  done
}

failed=0
if command -v aws > /dev/null; then compare s3 hfl rclone aws; else compare s3 hfl rclone; fi
compare sftp hfl rclone
exit "$failed"
