# Shared by the benchmark scripts: sourced, not run.
# Everything lives below BENCH_DIR; every daemon is started here and ended by its process id.

BENCH_DIR=${BENCH_DIR:-/var/tmp/strata-bench}
IMAGES=$BENCH_DIR/images      # archives, made once
DISK=$BENCH_DIR/disk          # a fresh ext4 for every comparison
RUNS=${RUNS:-5}
mkdir -p "$IMAGES" "$DISK"
export TMPDIR=$BENCH_DIR

say() { printf '%s\n' "$*" >&2; }

# A filesystem without a journal (as some machines' root is) gets ten times slower at creating files after many were deleted.
# So whatever is measured runs on a fresh, journalled ext4 on a loop device.
fresh_disk() {
  drop_disk
  fallocate -l "${DISK_SIZE:-24G}" "$BENCH_DIR/disk.img"
  mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$BENCH_DIR/disk.img"
  LOOP=$(losetup -f --show --direct-io=on "$BENCH_DIR/disk.img")
  mount -o noinit_itable,noatime "$LOOP" "$DISK"
}
drop_disk() {
  unmount_below "$DISK"
  mountpoint -q "$DISK" && umount "$DISK"
  [ -n "${LOOP:-}" ] && losetup -d "$LOOP" 2> /dev/null
  LOOP=
  rm -f "$BENCH_DIR/disk.img"
}
unmount_below() {
  awk -v dir="$1/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r at; do umount -l "$at"; done
}

# docker_start ROOT [DRIVER]: a dockerd of its own, without network.
docker_start() {
  DOCKER_DIR=$BENCH_DIR/docker-run
  rm -rf "$DOCKER_DIR"; mkdir -p "$DOCKER_DIR" "$1"
  dockerd --data-root "$1" --exec-root "$DOCKER_DIR/exec" -p "$DOCKER_DIR/pid" -H "unix://$DOCKER_DIR/sock" \
    --iptables=false --bridge=none -s "${2:-overlay2}" > "$BENCH_DIR/dockerd.log" 2>&1 &
  DOCKER_PID=$!
  export DOCKER_HOST=unix://$DOCKER_DIR/sock
  for _ in $(seq 100); do docker version > /dev/null 2>&1 && return; sleep 0.2; done
  say "dockerd did not start:"; tail -3 "$BENCH_DIR/dockerd.log" >&2; exit 1
}
docker_stop() {
  [ -n "${DOCKER_PID:-}" ] || return 0
  kill "$DOCKER_PID" 2> /dev/null; wait "$DOCKER_PID" 2> /dev/null
  DOCKER_PID=
  unmount_below "$BENCH_DIR/docker-run"
}

# seconds COMMAND: wall time of a shell command, in seconds. What the command left dirty before is flushed first.
seconds() {
  local from to
  sync
  from=$EPOCHREALTIME
  sh -c "$1" > "$BENCH_DIR/last.out" 2>&1 || { say "failed: $1"; tail -3 "$BENCH_DIR/last.out" >&2; exit 1; }
  to=$EPOCHREALTIME
  awk -v a="$from" -v b="$to" 'BEGIN { printf "%.4f\n", b - a }'
}
median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# result TOPIC OURS PEER TARGET PEER_NAME: one line of the table; the target is the highest ratio that is good enough.
result() {
  awk -v topic="$1" -v ours="$2" -v peer="$3" -v target="$4" -v name="$5" 'BEGIN {
    ratio = ours / peer
    printf "| %s | %.3f | %.3f (%s) | %.3f | %s | %s |\n", topic, ours, peer, name, ratio, target, ratio <= target ? "yes" : "NO"
  }' | tee -a "$BENCH_DIR/results.md"
}
# within TOPIC OURS LIMIT UNIT: one line for a figure with an absolute bound.
within() {
  awk -v topic="$1" -v ours="$2" -v limit="$3" -v unit="$4" 'BEGIN {
    printf "| %s | %s %s | – | – | %s %s | %s |\n", topic, ours, unit, limit, unit, ours <= limit ? "yes" : "NO"
  }' | tee -a "$BENCH_DIR/results.md"
}
