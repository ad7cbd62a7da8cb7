# The topic `drivers`: a container made and started, beside dockerd on the same storage driver. Sourced by run.sh.

# A fresh btrfs in the disk's place.
fresh_btrfs() {
  drop_disk
  fallocate -l "${DISK_SIZE:-24G}" "$BENCH_DIR/disk.img"
  mkfs.btrfs -q -f "$BENCH_DIR/disk.img"
  LOOP=$(losetup -f --show --direct-io=on "$BENCH_DIR/disk.img")
  mount -o noatime "$LOOP" "$DISK"
}

drivers() {
  local driver mine theirs
  for driver in overlay2 overlay vfs fuse-overlayfs btrfs; do
    case $driver in
      btrfs) fresh_btrfs ;;
      *) fresh_disk ;;
    esac
    docker_start "$DISK/docker" "$driver"
    mkdir -p "$DISK/out"
    mine="$ours_cmd --storage-driver $driver"
    $mine load -q -i "$IMAGES/busybox.tar" > /dev/null; docker load -q -i "$IMAGES/busybox.tar" > /dev/null
    # A container each time, as people make them; they stay until the disk goes.
    timed "docker=sh -c 'docker start -a \$(docker create --network none busybox true)'" \
      "strata=sh -c '$mine start -a \$($mine create --network none busybox true)'"
    result "create and start on $driver (ms)" "${ms[strata]}" "${ms[docker]}" 0.25 "docker create, start -a"
    end
  done
}
