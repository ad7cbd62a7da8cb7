#!/usr/bin/env bash
# One image's way through the store, each command shown as it runs. Usage: scripts/demo.sh [STRATA]
# Everything happens in a scratch folder, which is removed at the end; DEMO_DIR keeps it, and the base tree for the next run.
set -euo pipefail

strata=$(realpath "${1:-target/release/strata}")
dir=${DEMO_DIR:-$(mktemp -d "${TMPDIR:-/var/tmp}/strata-demo.XXXXXX")}
root=$dir/root
export STRATA_DATA_ROOT=$root STRATA_EXEC_ROOT=$dir/exec
dockerd_pid=

[ "$(id -u)" = 0 ] || { echo "The demo mounts and makes device nodes: run it as root." >&2; exit 1; }

finish() {
  if [ -n "$dockerd_pid" ]; then kill "$dockerd_pid" 2> /dev/null && wait "$dockerd_pid" 2> /dev/null || true; fi
  awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r at; do umount -l "$at"; done
  [ -n "${DEMO_DIR:-}" ] || rm -rf "$dir"
}
trap finish EXIT

bold=$(tput bold 2> /dev/null || true); plain=$(tput sgr0 2> /dev/null || true)
say() { printf '\n%s== %s ==%s\n' "$bold" "$1" "$plain"; }
# Shows a command and runs it.
show() {
  local word line=
  for word in "${@//$strata/strata}"; do
    case $word in *[!a-zA-Z0-9_./:=@,+-]*) line+=" '$word'" ;; *) line+=" $word" ;; esac
  done
  printf '%s$%s%s\n' "$bold" "$line" "$plain"
  "$@"
}
strata() { show "$strata" "$@"; }

say "A real Debian root becomes an image of one layer"
mkdir -p "$dir"
if [ ! -e "$dir/base.tar" ]; then
  suite=$(. /etc/os-release; echo "${VERSION_CODENAME:-bookworm}")
  show mmdebstrap --quiet --variant=minbase --include=ca-certificates "$suite" "$dir/base.tar"
fi
strata import --change 'CMD ["/bin/bash"]' --message "Debian, minimal" "$dir/base.tar" debian:demo

say "A Python layer on it: run, then commit"
strata run --name python --network host -e DEBIAN_FRONTEND=noninteractive debian:demo sh -c \
  'apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-minimal > /dev/null && rm -rf /var/lib/apt/lists/*'
strata commit --message "with python" --change 'ENV PYTHONUNBUFFERED=1' --change 'CMD ["python3"]' python app:1
strata rm python

say "What the store says of it"
strata images
strata history app:1
strata inspect --format 'ID {{.Id}}{{println}}layers {{json .RootFS.Layers}}{{println}}upper {{.GraphDriver.Data.UpperDir}}' app:1

say "A container changes, deletes and replaces files"
strata run --name box --hostname box --entrypoint python3 app:1 -c '
import os
open("/etc/debian_version", "a").write("changed\n")  # copied up
os.remove("/etc/issue")                              # a whiteout
for name in os.listdir("/etc/skel"): os.remove("/etc/skel/" + name)
os.rmdir("/etc/skel"); os.mkdir("/etc/skel")         # an opaque directory
open("/etc/skel/new", "w").write("only me\n")
print("python", os.sys.version.split()[0], "on", os.uname().nodename)'
strata ps --all
strata diff box

say "How it lies on disk, before the commit and after"
strata explain box
strata explain box:/etc/passwd box:/etc/debian_version box:/etc/issue
strata commit --message "changed" --change 'ENTRYPOINT []' --change 'CMD ["python3"]' box app:2
strata explain app:2

say "Saved, everything removed, loaded, run again: the same image ID"
before=$("$strata" inspect --format '{{.Id}}' app:2)
strata save --output "$dir/app.tar" app:2
strata rm box
strata rmi app:2 app:1 debian:demo
strata images --all
strata load --input "$dir/app.tar"
after=$("$strata" inspect --format '{{.Id}}' app:2)
[ "$before" = "$after" ] || { echo "the image ID changed: $before, $after" >&2; exit 1; }
echo "image ID before and after: $after"
strata run --rm app:2 python3 -c 'print(open("/etc/skel/new").read().strip(), "- and /etc/issue is", "there" if __import__("os").path.exists("/etc/issue") else "gone")'
strata system df
strata fsck --contents

if ! command -v dockerd > /dev/null || ! command -v docker > /dev/null; then
  say "No dockerd is installed: the last part is left out"
  exit 0
fi
say "A real dockerd on the same root"
sock=unix://$dir/docker.sock
daemon=(dockerd --data-root "$root" --exec-root "$dir/docker-exec" -p "$dir/docker.pid" -H "$sock" --iptables=false --bridge=none -s overlay2)
echo "$bold\$ ${daemon[*]} &$plain"
"${daemon[@]}" > "$dir/dockerd.log" 2>&1 &
dockerd_pid=$!
for _ in $(seq 100); do docker -H "$sock" version > /dev/null 2>&1 && break; sleep 0.2; done
show docker -H "$sock" images
show docker -H "$sock" run --rm --network none app:2 python3 -c 'print("the same image, run by dockerd")'
docker_id=$(docker -H "$sock" inspect --format '{{.Id}}' app:2)
[ "$docker_id" = "$after" ] || { echo "dockerd sees another image ID: $docker_id" >&2; exit 1; }
echo "Strata reads the root meanwhile, and does not change it:"
strata images
"$strata" rmi app:2 || true
kill "$dockerd_pid"
wait "$dockerd_pid" || true
dockerd_pid=
strata fsck
say "Done"
