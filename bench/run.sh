#!/usr/bin/env bash
# Strata beside Docker, in one run, as ratios. Usage: bench/run.sh STRATA [load save run changes many memory pull push drivers union registry]
# Runs of both are interleaved on the same fresh ext4; what writes is followed by a `sync` inside its time; medians of $RUNS runs.
# Results: a table on standard output and in $BENCH_DIR/results.md.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/pull.sh"
. "$(dirname "$0")/drivers.sh"
. "$(dirname "$0")/union.sh"
. "$(dirname "$0")/registry.sh"
strata=$(realpath "$1"); shift
topics=${*:-load save run changes many memory pull push drivers union registry}
trap 'docker_stop; containerd_stop; registry_stop; server_stop; nginx_stop; drop_disk' EXIT

case $topics in registry | union) ;; *) "$(dirname "$0")/fixtures.sh" > /dev/null ;; esac
: > "$BENCH_DIR/results.md"
{
  echo "| what | Strata | peer | ratio | at most | met |"
  echo "| --- | --- | --- | --- | --- | --- |"
} | tee -a "$BENCH_DIR/results.md"

# A store of ours on the fresh disk.
ours() { "$strata" --data-root "$DISK/strata" --exec-root "$BENCH_DIR/exec" "$@"; }
ours_cmd="$strata --data-root $DISK/strata --exec-root $BENCH_DIR/exec"

start() { fresh_disk; docker_start "$DISK/docker"; mkdir -p "$DISK/out"; }
end() { docker_stop; drop_disk; }

load() {
  local mine=() theirs=() run
  start
  for run in $(seq "$RUNS"); do
    # An empty store each time, without deleting anything on this disk: a new root for ours, a new daemon for theirs.
    theirs+=("$(seconds "docker load -q -i $IMAGES/app.tar && sync")")
    mine+=("$(seconds "$strata --data-root $DISK/strata-$run load -q -i $IMAGES/app.tar && sync")")
    docker_stop; docker_start "$DISK/docker-$run"
  done
  result "load of app, 7 layers, 930 MB (s)" "$(printf '%s\n' "${mine[@]}" | median)" "$(printf '%s\n' "${theirs[@]}" | median)" 0.25 "docker load"
  end
}

save() {
  local mine=() theirs=() run
  start
  ours load -q -i "$IMAGES/app.tar" > /dev/null; docker load -q -i "$IMAGES/app.tar" > /dev/null
  for run in $(seq "$RUNS"); do
    theirs+=("$(seconds "docker save -o $DISK/out/docker-$run.tar app && sync")")
    mine+=("$(seconds "$ours_cmd save -q -o $DISK/out/strata-$run.tar app && sync")")
  done
  result "save of app (s)" "$(printf '%s\n' "${mine[@]}" | median)" "$(printf '%s\n' "${theirs[@]}" | median)" 0.5 "docker save"
  cmp "$DISK/out/strata-1.tar" "$DISK/out/strata-2.tar" || { say "two saves differ"; exit 1; }
  end
}

# hyperfine's medians in milliseconds, of commands given as NAME=COMMAND; sets the array `ms`.
declare -A ms
timed() {
  local args=() names=() pair i=0
  for pair in "$@"; do names+=("${pair%%=*}"); args+=("${pair#*=}"); done
  hyperfine -N --warmup 3 --runs "${HYPERFINE_RUNS:-20}" --export-json "$BENCH_DIR/hyperfine.json" "${args[@]}" > "$BENCH_DIR/hyperfine.out" 2>&1 ||
    { tail -5 "$BENCH_DIR/hyperfine.out" >&2; exit 1; }
  for pair in "${names[@]}"; do
    ms[$pair]=$(jq ".results[$i].median * 1000" "$BENCH_DIR/hyperfine.json"); i=$((i + 1))
  done
}

run() {
  start
  ours load -q -i "$IMAGES/busybox.tar" > /dev/null; docker load -q -i "$IMAGES/busybox.tar" > /dev/null
  local bundle=$DISK/bundle
  mkdir -p "$bundle/rootfs"
  docker export "$(docker create busybox)" | tar -C "$bundle/rootfs" -x
  (cd "$bundle" && runc spec && jq '.process.terminal = false | .process.args = ["true"]' config.json > c && mv c config.json)
  timed "docker=docker run --rm --network none busybox true" \
    "strata=$ours_cmd run --rm --network none busybox true" \
    "runc=runc --root $BENCH_DIR/runc run --bundle $bundle bench"
  result "run --rm --network none busybox true (ms)" "${ms[strata]}" "${ms[docker]}" 0.2 "docker run"
  within "run, over runc on a ready bundle (ms)" "$(awk "BEGIN { print ${ms[strata]} - ${ms[runc]} }")" 20 ms
  end
}

changes() {
  local mine=() theirs=() run change
  change='find /usr/local/lib/python3.11/dist-packages -type f | sort | head -5000 | while read f; do echo x >> "$f"; done'
  start
  ours load -q -i "$IMAGES/app.tar" > /dev/null; docker load -q -i "$IMAGES/app.tar" > /dev/null
  docker run --name changed --network none --entrypoint sh app -c "$change"
  ours run --name changed --network none --entrypoint sh app -c "$change"
  for run in $(seq "$RUNS"); do
    # One more change each time: a layer that exists already would be measured being thrown away.
    echo "$run" > "$DISK/out/mark"
    docker cp -q "$DISK/out/mark" changed:/mark; ours cp -q "$DISK/out/mark" changed:/mark
    theirs+=("$(seconds "docker commit -p=false changed c$run && sync")")
    mine+=("$(seconds "$ours_cmd commit changed c$run && sync")")
  done
  result "commit of 5,000 changed files (s)" "$(printf '%s\n' "${mine[@]}" | median)" "$(printf '%s\n' "${theirs[@]}" | median)" 0.25 "docker commit"
  HYPERFINE_RUNS=10 timed "docker=docker diff changed" "strata=$ours_cmd diff changed"
  result "diff of 5,000 changed files (ms)" "${ms[strata]}" "${ms[docker]}" 0.1 "docker diff"
  end
}

# What grows with the store must not be felt.
many() {
  start
  ours load -q -i "$IMAGES/busybox.tar" > /dev/null
  timed "images=$ours_cmd images -q" "ps=$ours_cmd ps -q" "run=$ours_cmd run --rm --network none busybox true"
  local images=${ms[images]} ps=${ms[ps]} run=${ms[run]}
  STRATA=$strata python3 "$(dirname "$0")/many.py" "$DISK/strata" 2000
  timed "images=$ours_cmd images -q" "ps=$ours_cmd ps -q" "run=$ours_cmd run --rm --network none busybox true"
  [ "$("$strata" --data-root "$DISK/strata" images -q | wc -l)" -ge 2001 ] || { say "the 2,000 images are not there"; exit 1; }
  within "images with 2,000 images, over an empty store" "$(awk "BEGIN { print ${ms[images]} - $images }")" 20 ms
  within "ps with 2,000 images, over an empty store" "$(awk "BEGIN { print ${ms[ps]} - $ps }")" 20 ms
  within "run with 2,000 images, over an empty store" "$(awk "BEGIN { print ${ms[run]} - $run }")" 20 ms
  end
}

memory() {
  fresh_disk; mkdir -p "$DISK/out"
  local peak
  peak() { /usr/bin/time -f %M -o "$BENCH_DIR/peak" "$@" > /dev/null; awk '{ printf "%.1f", $1 / 1024 }' "$BENCH_DIR/peak"; }
  within "memory of load of app" "$(peak "$strata" --data-root "$DISK/strata" load -q -i "$IMAGES/app.tar")" 64 MiB
  within "memory of load of app from a pipe" "$(peak bash -c "exec $strata --data-root $DISK/piped load -q < <(cat $IMAGES/app.tar)")" 64 MiB
  within "memory of save of app" "$(peak "$strata" --data-root "$DISK/strata" save -q -o "$DISK/out/a.tar" app)" 64 MiB
  within "memory of save of app into a pipe" "$(peak bash -c "exec $strata --data-root $DISK/strata save -q app > >(cat > /dev/null)")" 64 MiB
  drop_disk
}

for topic in $topics; do "$topic"; done
echo
echo "$(nproc) cores, $(sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo), kernel $(uname -r), ext4 on a loop device; $(docker --version 2> /dev/null || true); median of $RUNS runs"
! grep -q '| NO |$' "$BENCH_DIR/results.md"
