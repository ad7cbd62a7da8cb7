#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that a target needs, and says why. Usage: scripts/packages.sh build|demo|test|bench
# What is there already is not touched; without root rights it prints the command to run instead.
set -euo pipefail

build=(
  "gcc: the linker, and C parts of zstd, xz and seccomp bindings"
  "libc6-dev: C headers for the same"
  "make: runs this"
  "pkg-config: finds libseccomp"
  "nasm: assembles ISA-L, which inflates gzip twice as fast as the rest"
  "autoconf: makes ISA-L's build"
  "automake: the same"
  "libtool: the same"
  "libseccomp-dev: the built-in runtime filters system calls with libseccomp"
)
demo=(
  "mmdebstrap: makes a real Debian root to import"
  "ca-certificates: for apt-get inside the container"
  "util-linux: mount, losetup, script"
)
peers=(
  "docker.io: a real dockerd that must accept our root, and we its"
  "containerd: dockerd needs it"
  "runc: dockerd needs it; also the external runtime in tests"
)
test=(
  "mmdebstrap: a Debian root for a real load in containers"
  "busybox-static: a container root in one file"
  "skopeo: reads and writes our archives; a client of our registry"
  "podman: another client of our registry"
  "docker-registry: a registry to pull from and push to, and to share a folder with"
  "swift: an object store for our registry, with the four below"
  "swift-proxy: its front"
  "swift-account: its accounts"
  "swift-container: its containers"
  "swift-object: its objects"
  "memcached: its tokens"
  "openssl: certificates for registries with TLS"
  "btrfs-progs: a btrfs for that driver"
  "fuse3: lets users mount our union"
  "rsync: copies a union and its hard links"
  "git: works in a union"
  "umoci: unpacks our OCI layouts"
  "attr: extended attributes in test trees"
  "acl: access control lists in test trees"
  "libacl1-dev: pjdfstest links it, which is built once for POSIX tests of our union"
  "libcap2-bin: file capabilities in test trees"
  "e2fsprogs: a small filesystem to run full"
  "libarchive-tools: bsdtar, a second tar to agree with"
  "python3: makes archives of every kind"
  "zstd: makes compressed archives"
  "xz-utils: the same"
  "bzip2: the same"
)
bench=(
  "debootstrap: the base image"
  "python3-pip: the wheels of the app image"
  "fuse-overlayfs: a peer of our union"
  "unionfs-fuse: another"
  "mergerfs: another"
  "fio: reads and writes of a large file"
  "nginx-light: a peer in sending blobs"
  "apache2-utils: many requests at once (ab)"
  "hyperfine: times commands side by side"
  "isal: igzip, for the floor of a pull"
  "time: peak memory, processor time"
  "jq: reads what hyperfine and docker print"
)

case "${1:-}" in
  build) wanted=("${build[@]}") ;;
  demo) wanted=("${build[@]}" "${demo[@]}" "${peers[@]}") ;;
  test) wanted=("${build[@]}" "${demo[@]}" "${peers[@]}" "${test[@]}") ;;
  bench) wanted=("${build[@]}" "${demo[@]}" "${peers[@]}" "${test[@]}" "${bench[@]}") ;;
  *) echo "usage: $0 build|demo|test|bench" >&2; exit 2 ;;
esac

if ! command -v cargo > /dev/null; then
  echo "Rust is missing: install the toolchain (cargo and rustc 1.95 or newer) first." >&2
  exit 1
fi
if ! command -v dpkg-query > /dev/null; then
  echo "This is neither Debian nor Ubuntu; make sure that these are installed:" >&2
  printf '  %s\n' "${wanted[@]}" >&2
  exit 0
fi

missing=()
for line in "${wanted[@]}"; do
  name=${line%%:*}
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null)" = installed ] && continue
  # A package is not needed where its program came from elsewhere.
  [ "$name" = python3 ] && command -v python3 > /dev/null && continue
  [ "$name" = python3-pip ] && command -v pip > /dev/null && continue
  missing+=("$name")
  printf 'needs %s\n' "$line"
done
[ ${#missing[@]} = 0 ] && exit 0

install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
if [ "$(id -u)" != 0 ]; then
  echo "Run as root: apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
# Installing docker.io must not start a daemon here.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
"${install[@]}" > /dev/null
