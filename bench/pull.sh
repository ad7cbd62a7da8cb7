# The topics `pull` and `push` of run.sh: from and to a docker-registry on loopback, beside dockerd, containerd, podman and skopeo.
# Sourced, not run. PULL_IMAGES chooses among app, node, deep and blob.

PULL_IMAGES=${PULL_IMAGES:-app node deep blob}
REGISTRY_PORT=${REGISTRY_PORT:-5055}
REGISTRY=127.0.0.1:$REGISTRY_PORT
export OTEL_TRACES_EXPORTER=none

# registry_start FOLDER: an empty one if the folder is.
registry_start() {
  mkdir -p "$1"
  cat > "$BENCH_DIR/registry.yml" <<Y
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $1, maxthreads: 100}, cache: {blobdescriptor: inmemory}, delete: {enabled: true}}
http: {addr: "$REGISTRY"}
Y
  docker-registry serve "$BENCH_DIR/registry.yml" > "$BENCH_DIR/registry.log" 2>&1 &
  REGISTRY_PID=$!
  for _ in $(seq 50); do curl -fs "http://$REGISTRY/v2/" > /dev/null && return; sleep 0.1; done
  say "docker-registry did not start:"; tail -3 "$BENCH_DIR/registry.log" >&2; exit 1
}
registry_stop() {
  [ -n "${REGISTRY_PID:-}" ] || return 0
  kill "$REGISTRY_PID" 2> /dev/null || true; wait "$REGISTRY_PID" 2> /dev/null || true
  REGISTRY_PID=
}

containerd_start() {
  mkdir -p "$1/root" "$1/state"
  printf 'version = 2\nroot = "%s"\nstate = "%s"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n address = "%s"\n' \
    "$1/root" "$1/state" "$BENCH_DIR/containerd.sock" > "$BENCH_DIR/containerd.toml"
  containerd -c "$BENCH_DIR/containerd.toml" > "$BENCH_DIR/containerd.log" 2>&1 &
  CONTAINERD_PID=$!
  for _ in $(seq 50); do ctr -a "$BENCH_DIR/containerd.sock" version > /dev/null 2>&1 && return; sleep 0.2; done
  say "containerd did not start"; exit 1
}
containerd_stop() {
  [ -n "${CONTAINERD_PID:-}" ] || return 0
  kill "$CONTAINERD_PID" 2> /dev/null; wait "$CONTAINERD_PID" 2> /dev/null
  CONTAINERD_PID=
}

# The images of the registry, made once: node is many small files, deep 121 layers, blob one layer of 2 GiB that does not compress.
pull_fixtures() {
  local image tree=$BENCH_DIR/tree
  have() { curl -fs "http://$REGISTRY/v2/bench/$1/manifests/latest" -o /dev/null; }
  into() { skopeo copy -q --dest-tls-verify=false "$1" "docker://$REGISTRY/bench/$2:latest"; }
  for image in $PULL_IMAGES; do
    have "$image" && continue
    case $image in
      app) into "docker-archive:$IMAGES/app.tar" app ;;
      node)
        mkdir -p "$BENCH_DIR/npm"
        [ -d "$BENCH_DIR/npm/node_modules" ] || (cd "$BENCH_DIR/npm" && echo '{"name":"x","version":"1.0.0"}' > package.json &&
          npm install --no-audit --no-fund --ignore-scripts --legacy-peer-deps react-scripts @angular/cli @mui/icons-material @mui/material \
            lodash rxjs date-fns typescript webpack eslint jest gatsby-cli @fortawesome/free-solid-svg-icons core-js > "$BENCH_DIR/npm.log" 2>&1)
        tar -C "$BENCH_DIR/npm" --owner 0 --group 0 -cf "$BENCH_DIR/layer-1" node_modules
        python3 "$(dirname "${BASH_SOURCE[0]}")/image.py" "$BENCH_DIR/made.tar" "$BENCH_DIR/layer-1"
        into "docker-archive:$BENCH_DIR/made.tar" node ;;
      deep)
        rm -rf "$tree"; mkdir -p "$tree"
        local layers=() i
        for i in $(seq 121); do
          rm -rf "$tree/deep"; mkdir -p "$tree/deep/d$((i % 10))"
          echo "$i" > "$tree/deep/shared"; head -c 20000 /dev/urandom > "$tree/deep/d$((i % 10))/f$i"
          tar -C "$tree" --owner 0 --group 0 -cf "$tree/layer-$i" deep; layers+=("$tree/layer-$i")
        done
        python3 "$(dirname "${BASH_SOURCE[0]}")/image.py" "$BENCH_DIR/made.tar" "${layers[@]}"
        into "docker-archive:$BENCH_DIR/made.tar" deep ;;
      blob)
        rm -rf "$tree"; mkdir -p "$tree"
        openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 0 -in /dev/zero 2> /dev/null | head -c 2147483648 > "$tree/big" || true
        tar -C "$tree" --owner 0 --group 0 -cf "$BENCH_DIR/layer-1" big
        python3 "$(dirname "${BASH_SOURCE[0]}")/image.py" "$BENCH_DIR/made.tar" "$BENCH_DIR/layer-1"
        into "docker-archive:$BENCH_DIR/made.tar" blob ;;
    esac
    rm -rf "$tree" "$BENCH_DIR/made.tar" "$BENCH_DIR/layer-1"
  done
}

# fastest NAME=SECONDS…: the best of the peers, as "seconds name".
fastest() { printf '%s\n' "$@" | awk -F= '{ print $2, $1 }' | sort -n | head -1; }

# floor NAME: the least that a pull of it can take here, in seconds: inflating, both hashes and making the files, each by the fastest program
# there is, their processor time spread over all processors.
floor() {
  local layers=$BENCH_DIR/floor blob cpu=()
  fresh_disk
  rm -rf "$layers"; mkdir -p "$layers" "$DISK/tree"
  skopeo copy -q --src-tls-verify=false "docker://$REGISTRY/bench/$1:latest" "dir:$layers"
  cpu() { cpu+=("$(/usr/bin/time -q -f '%U %S' sh -c "$1" 2>&1 > /dev/null | tail -1)"); }
  for blob in $(jq -r '.layers[].digest' "$layers/manifest.json" | cut -d: -f2); do
    igzip -d -c "$layers/$blob" > "$DISK/layer.tar"
    cpu "openssl dgst -sha256 $layers/$blob"
    cpu "igzip -d -c $layers/$blob"
    cpu "openssl dgst -sha256 $DISK/layer.tar"
    cpu "tar -x -C $DISK/tree -f $DISK/layer.tar"
  done
  rm -rf "$layers"
  drop_disk
  printf '%s\n' "${cpu[@]}" | awk -v cores="$(nproc)" '{ sum += $1 + $2 } END { printf "%.3f", sum / cores }'
}

pull() {
  local image run reference best name limit
  registry_start "$BENCH_DIR/registry"
  pull_fixtures
  for image in $PULL_IMAGES; do
    reference=$REGISTRY/bench/$image:latest
    local mine=() docker=() podman=() containerd=()
    # The registry's blobs are in memory, for all alike.
    find "$BENCH_DIR/registry" -type f -name data -exec cat {} + > /dev/null
    for run in $(seq "$RUNS"); do
      # A fresh disk for each: none has to clean up after another.
      fresh_disk
      docker_start "$DISK/docker"
      docker+=("$(seconds "docker pull -q $reference && sync")")
      docker_stop; fresh_disk
      containerd_start "$DISK/containerd"
      containerd+=("$(seconds "ctr -a $BENCH_DIR/containerd.sock images pull --plain-http $reference && sync")")
      containerd_stop; fresh_disk
      podman+=("$(seconds "podman --root $DISK/podman --runroot $BENCH_DIR/podman-run --storage-driver overlay pull -q --tls-verify=false $reference && sync")")
      unmount_below "$DISK"; unmount_below "$BENCH_DIR/podman-run"; fresh_disk
      mine+=("$(seconds "$strata --data-root $DISK/strata pull -q $reference && sync")")
      drop_disk
    done
    read -r best name <<< "$(fastest "docker pull=$(printf '%s\n' "${docker[@]}" | median)" \
      "ctr images pull=$(printf '%s\n' "${containerd[@]}" | median)" "podman pull=$(printf '%s\n' "${podman[@]}" | median)")"
    limit=0.334; [ "$image" = blob ] && limit=0.5
    result "pull of $image (s)" "$(printf '%s\n' "${mine[@]}" | median)" "$best" "$limit" "$name"
    [ "$image" != app ] || result "pull of app (s)" "$(printf '%s\n' "${mine[@]}" | median)" "$(floor app)" 1.5 "the floor: igzip, openssl, tar"
  done
  fresh_disk
  within "memory of pull of app" "$(/usr/bin/time -f %M -o "$BENCH_DIR/peak" "$strata" --data-root "$DISK/strata" pull -q "$REGISTRY/bench/app" > /dev/null &&
    awk '{ printf "%.1f", $1 / 1024 }' "$BENCH_DIR/peak")" 96 MiB
  drop_disk
  registry_stop
}

push() {
  local run reference=$REGISTRY/bench/app:latest to=$REGISTRY/copy/app:latest image
  local podman="podman --root $DISK/podman --runroot $BENCH_DIR/podman-run --storage-driver overlay"
  local mine=() theirs=() mine_at_hand=() theirs_at_hand=() size ours
  registry_start "$BENCH_DIR/registry"
  PULL_IMAGES=app pull_fixtures
  fresh_disk
  skopeo copy -q --src-tls-verify=false "docker://$reference" "oci:$DISK/oci:latest"
  $podman pull -q --tls-verify=false "$reference" > /dev/null
  $ours_cmd pull -q "$reference" > /dev/null
  $ours_cmd tag "$reference" "$to"
  size=$(curl -fs -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' "http://$REGISTRY/v2/bench/app/manifests/latest" | jq '[.layers[].size] | add')
  registry_stop
  # Into an empty registry each time. The source is gone and what is known of the blobs forgotten: layers are compressed.
  fresh_registry() { registry_stop; rm -rf "$BENCH_DIR/registry-2"; registry_start "$BENCH_DIR/registry-2"; }
  for run in $(seq "$RUNS"); do
    fresh_registry
    theirs+=("$(seconds "$podman push -q --tls-verify=false $reference docker://$to && sync")")
    fresh_registry
    theirs_at_hand+=("$(seconds "skopeo copy -q --dest-tls-verify=false oci:$DISK/oci:latest docker://$to && sync")")
    fresh_registry
    rm -rf "$DISK/strata/image/overlay2/distribution" "$DISK/strata/strata/cache/manifests"
    mine+=("$(seconds "$ours_cmd push -q $to && sync")")
    ours=$(curl -fs -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' "http://$REGISTRY/v2/copy/app/manifests/latest" | jq '[.layers[].size] | add')
  done
  result "push of app, layers to compress (s)" "$(printf '%s\n' "${mine[@]}" | median)" "$(printf '%s\n' "${theirs[@]}" | median)" 0.6 "podman push"
  within "size of what was pushed, beside gzip -6" "$(awk "BEGIN { printf \"%.3f\", $ours / $size }")" 1.08 ""
  registry_stop
  # The blobs are on another registry of this machine, where the image was pulled from.
  registry_start "$BENCH_DIR/registry"
  local source_pid=$REGISTRY_PID; REGISTRY_PID=
  REGISTRY_PORT=$((REGISTRY_PORT + 1)); REGISTRY=127.0.0.1:$REGISTRY_PORT; image=$REGISTRY/copy/app:latest
  fresh_disk
  $ours_cmd pull -q "$reference" > /dev/null; $ours_cmd tag "$reference" "$image"
  cp "$DISK/strata/image/overlay2/repositories.json" "$BENCH_DIR/repositories.json"
  for run in $(seq "$RUNS"); do
    fresh_registry
    mine_at_hand+=("$(seconds "$ours_cmd push -q $image && sync")")
  done
  result "push of app, blobs at hand (s)" "$(printf '%s\n' "${mine_at_hand[@]}" | median)" "$(printf '%s\n' "${theirs_at_hand[@]}" | median)" 0.7 "skopeo copy"
  registry_stop
  kill "$source_pid" 2> /dev/null; wait "$source_pid" 2> /dev/null
  REGISTRY_PORT=$((REGISTRY_PORT - 1)); REGISTRY=127.0.0.1:$REGISTRY_PORT
  rm -rf "$BENCH_DIR/registry-2"
  unmount_below "$BENCH_DIR/podman-run"; drop_disk
}
