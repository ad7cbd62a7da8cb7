# Our union in user space beside the kernel's overlayfs and other FUSE unions, over a tree of many small files. Sourced by run.sh.
# Ours is measured in the overlay dialect, as it is by default, and with processors that may sleep while it is asked.

UNION_FILES=${UNION_FILES:-60000}

# A lower tree on the fresh disk, as package managers leave it: folders in folders, files of a few KiB.
union_tree() {
  python3 - "$1" "$UNION_FILES" << 'PY'
import os, sys
root, count = sys.argv[1], int(sys.argv[2])
for n in range(count):
    folder = f"{root}/{n % 20}/{n // 20 % 50}/{n // 1000 % 10}"
    if n < 10000: os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/f{n}", "wb") as f: f.write(b"x" * (n % 7000))
PY
}
# union_mount KIND RUN: mounts over $DISK/lower with an upper folder of its own; fails if the peer is not installed.
union_mount() {
  local at=$DISK/$1-$2
  mkdir -p "$at/up" "$at/wk" "$at/m"
  case $1 in
    kernel) mount -t overlay o -o "lowerdir=$DISK/lower,upperdir=$at/up,workdir=$at/wk" "$at/m" ;;
    ours) "$strata" mount -t overlay --fuse -o "lowerdir=$DISK/lower,upperdir=$at/up,workdir=$at/wk" o "$at/m" ;;
    awake) "$strata" mount -t overlay --fuse -o "awake=on,lowerdir=$DISK/lower,upperdir=$at/up,workdir=$at/wk" o "$at/m" ;;
    fuse-overlayfs) fuse-overlayfs -o "lowerdir=$DISK/lower,upperdir=$at/up,workdir=$at/wk,allow_other" "$at/m" ;;
    fuse-overlayfs2) "$FUSE_OVERLAYFS2" -o "lowerdir=$DISK/lower,upperdir=$at/up,workdir=$at/wk,allow_other" "$at/m" ;;
    unionfs) unionfs -o cow,allow_other,use_ino,suid,dev "$at/up=RW:$DISK/lower=RO" "$at/m" ;;
    mergerfs) mergerfs -o allow_other,use_ino,cache.files=auto-full,category.create=ff "$at/up=RW:$DISK/lower=RO" "$at/m" ;;
  esac
}
# union_work WORK MOUNTPOINT: the command that is timed.
union_work() {
  case $1 in
    "find, cold" | "find, warm") echo "find $2 -type f | wc -l" ;;
    lstat) echo "find $2 -type f -printf '%s %i\n' | wc -l" ;;
    "tar, cold" | "tar, warm") echo "tar cf - -C $2 . | cat > /dev/null" ;;
    copy-up) echo "cd $2 && for d in 1 3; do find \$d -type f | head -2500; done | xargs python3 -c 'import sys
for name in sys.argv[1:]: open(name, \"ab\").write(b\"x\")'" ;;
    untar) echo "mkdir $2/new && tar xf $DISK/small.tar -C $2/new" ;;
    rm) echo "cd $2 && rm -rf 0 2 4 6 8 10 12 14 16 18" ;;
  esac
}
# union_data WORK MOUNTPOINT: seconds for a GB, or microseconds for an access, of a file of 1 GiB.
union_data() {
  local how what
  case $1 in
    "write 1 GiB") how="--rw=write --bs=1m" ;;
    "read 1 GiB") how="--rw=read --bs=1m" ;;
    "random reads of 4 KiB") how="--rw=randread --bs=4k --runtime=3 --time_based" ;;
    "random writes of 4 KiB") how="--rw=randwrite --bs=4k --runtime=3 --time_based" ;;
  esac
  case $1 in random*) what='1e6 / (.read.iops + .write.iops)' ;; *) what='1e9 / (.read.bw_bytes + .write.bw_bytes)' ;; esac
  # shellcheck disable=SC2086
  fio --name=x --directory="$2" --filename=big --size=1g --ioengine=psync --invalidate=0 --output-format=json $how |
    jq ".jobs[0] | $what"
}
# What the last command left is written, and nothing read is remembered.
drop_caches() { sync; echo 3 > /proc/sys/vm/drop_caches; }

read -r -a UNION_PEERS <<< "${UNION_PEERS-fuse-overlayfs fuse-overlayfs2 unionfs mergerfs}"

union() {
  local kind work run peers=(kernel ours awake)
  # Version 2 is another program, which `make bench` installs.
  FUSE_OVERLAYFS2=${FUSE_OVERLAYFS2:-$PWD/target/tools/bin/fuse-overlayfs}
  for kind in "${UNION_PEERS[@]}"; do
    if [ "$kind" = fuse-overlayfs2 ] && [ -x "$FUSE_OVERLAYFS2" ] || command -v "$kind" > /dev/null; then
      peers+=("$kind")
    else
      say "union: $kind is not installed: left out"
    fi
  done
  fresh_disk
  union_tree "$DISK/lower"
  (cd "$DISK/lower" && find . -type f | sort | awk 'NR <= 20000' | tar cf "$DISK/small.tar" -T -)
  declare -A times
  for run in $(seq "$RUNS"); do
    for kind in "${peers[@]}"; do
      union_mount "$kind" "$run" || { say "union: $kind does not mount"; continue; }
      union_all "$kind" "$DISK/$kind-$run/m"
      case $kind in ours | awake) "$strata" umount "$DISK/$kind-$run/m" ;; *) umount "$DISK/$kind-$run/m" ;; esac
      rm -rf "${DISK:?}/$kind-$run"
    done
  done
  union_report
  union_mount_time
  drop_disk
}
# union_all KIND MOUNTPOINT: times everything there.
union_all() {
  local work
  for work in "find, cold" "find, warm" lstat "tar, cold" "tar, warm" untar copy-up rm; do
    # The others have no copy-up, or fail at deleting what they read.
    case "$1 $work" in "mergerfs copy-up" | "mergerfs rm" | "unionfs rm") continue ;; esac
    case $work in *cold) drop_caches ;; esac
    times[$1 $work]+="$(seconds "$(union_work "$work" "$2")") "
  done
  if [ "$1" = ours ]; then
    run_pid=$("$strata" mount --list --format json | jq -r --arg m "$2" '.[] | select(.mountpoint == $m) | .pid')
    times[memory]+="$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$run_pid/status") "
  fi
  case $1 in kernel | ours)
    for work in "write 1 GiB" "read 1 GiB" "random reads of 4 KiB" "random writes of 4 KiB"; do
      times[$1 $work]+="$(union_data "$work" "$2") "
    done ;;
  esac
}
union_report() {
  local work ratio kind other
  while IFS='|' read -r ratio work; do
    result "union: $work" "$(middle "${times[ours $work]}")" "$(middle "${times[kernel $work]}")" "$ratio" "kernel overlayfs"
    if [ -n "${times[awake $work]:-}" ]; then
      result "union, awake=on: $work" "$(middle "${times[awake $work]}")" "$(middle "${times[kernel $work]}")" "$ratio" "kernel overlayfs"
    fi
    case "$work" in tar* | untar | rm) ;; *) continue ;; esac
    other=$(for kind in "${UNION_PEERS[@]}"; do
      if [ -n "${times[$kind $work]:-}" ]; then echo "$(middle "${times[$kind $work]}") $kind"; fi
    done | sort -n | head -1)
    if [ -n "$other" ]; then
      result "union: $work, beside the fastest FUSE union" "$(middle "${times[ours $work]}")" "${other% *}" 0.5 "${other#* }"
    fi
  done << 'END'
1.1|write 1 GiB
1.1|read 1 GiB
1.1|random reads of 4 KiB
1.1|random writes of 4 KiB
1.4|find, warm
1.4|lstat
2.5|tar, warm
2.5|tar, cold
4|untar
4|rm
1|copy-up
END
  within "union: peak memory of the process" "$(middle "${times[memory]}")" 60 MiB
}
# The whole command, with one branch below and with 100.
union_mount_time() {
  local branches limit lower run took
  mkdir -p "$DISK/mt/up" "$DISK/mt/wk" "$DISK/mt/m"
  for branches in 1 100; do
    lower=$(for run in $(seq "$branches"); do mkdir -p "$DISK/mt/$run"; printf '%s:' "$DISK/mt/$run"; done)
    took=$(for run in $(seq 11); do
      seconds "$strata mount -t overlay --fuse -o lowerdir=${lower%:},upperdir=$DISK/mt/up,workdir=$DISK/mt/wk o $DISK/mt/m"
      "$strata" umount "$DISK/mt/m" > /dev/null
    done | median)
    limit=10; [ "$branches" = 1 ] || limit=30
    within "union: mount, branches below: $branches" "$(awk -v s="$took" 'BEGIN { printf "%.1f", s * 1000 }')" "$limit" ms
  done
}
# The median of a list of numbers in one word.
middle() { tr ' ' '\n' <<< "$1" | sed '/^$/d' | median; }
