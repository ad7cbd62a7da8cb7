# Our union in user space beside the kernel's overlayfs and other FUSE unions, over a tree of many small files. Sourced by run.sh.
# Ours is measured in the overlay dialect, with the kernel reading and writing the upper files by itself where it can.

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
    fuse-overlayfs) fuse-overlayfs -o "lowerdir=$DISK/lower,upperdir=$at/up,workdir=$at/wk,allow_other" "$at/m" ;;
    unionfs) unionfs -o cow,allow_other,use_ino,suid,dev "$at/up=RW:$DISK/lower=RO" "$at/m" ;;
    mergerfs) mergerfs -o allow_other,use_ino,cache.files=auto-full,category.create=ff "$at/up=RW:$DISK/lower=RO" "$at/m" ;;
  esac
}
union_work() {
  case $1 in
    find) echo "find $2 -type f | wc -l" ;;
    lstat) echo "find $2 -type f -printf '%s %i\n' | wc -l" ;;
    tar) echo "tar cf - -C $2 . | cat > /dev/null" ;;
    copyup) echo "cd $2 && for d in 0 1; do find \$d -type f | head -2500; done | xargs python3 -c 'import sys
for name in sys.argv[1:]: open(name, \"ab\").write(b\"x\")'" ;;
    untar) echo "mkdir $2/new && tar xf $DISK/small.tar -C $2/new" ;;
    rm) echo "cd $2 && rm -rf 0 2 4 6 8 10 12 14 16 18" ;;
    write) echo "dd if=/dev/zero of=$2/big bs=1M count=1024 status=none" ;;
    read) echo "cat $2/big > /dev/null" ;;
  esac
}

union() {
  local kind work run peers=(kernel ours) other ratio
  for kind in fuse-overlayfs unionfs mergerfs; do
    if command -v "$kind" > /dev/null; then peers+=("$kind"); else say "union: $kind is not installed: left out"; fi
  done
  fresh_disk
  union_tree "$DISK/lower"
  (cd "$DISK/lower" && find . -type f | sort | head -20000 | tar cf "$DISK/small.tar" -T -)
  declare -A times
  for run in $(seq "$RUNS"); do
    for kind in "${peers[@]}"; do
      union_mount "$kind" "$run" || { say "union: $kind does not mount"; continue; }
      for work in find find lstat tar write read copyup untar rm; do
        # The others have no copy-up, or fail at deleting what they read.
        case "$kind $work" in "mergerfs copyup" | "mergerfs rm" | "unionfs rm") continue ;; esac
        times[$kind $work]+="$(seconds "$(union_work "$work" "$DISK/$kind-$run/m")") "
      done
      if [ "$kind" = ours ]; then
        run_pid=$("$strata" mount --list --format json | jq -r --arg m "$DISK/ours-$run/m" '.[] | select(.mountpoint == $m) | .pid')
        times[memory]+="$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$run_pid/status") "
        "$strata" umount "$DISK/ours-$run/m"
      else
        umount "$DISK/$kind-$run/m"
      fi
    done
  done
  for work in "find 1.4" "lstat 1.4" "tar 2.5" "write 1.1" "read 1.1" "copyup 1" "untar 4" "rm 4"; do
    ratio=${work#* } work=${work% *}
    result "union: $work, $UNION_FILES files (s)" "$(middle "${times[ours $work]}")" "$(middle "${times[kernel $work]}")" "$ratio" "kernel overlayfs"
    other=$(for kind in fuse-overlayfs unionfs mergerfs; do
      if [ -n "${times[$kind $work]:-}" ]; then echo "$(middle "${times[$kind $work]}") $kind"; fi
    done | sort -n | head -1)
    case "$work" in tar | untar | rm)
      if [ -n "$other" ]; then
        result "union: $work beside the fastest FUSE union (s)" "$(middle "${times[ours $work]}")" "${other% *}" 0.5 "${other#* }"
      fi ;;
    esac
  done
  within "union: peak memory of the process" "$(middle "${times[memory]}")" 60 MiB
  drop_disk
}
# The median of a list of numbers in one word.
middle() { tr ' ' '\n' <<< "$1" | sed '/^$/d' | median; }
