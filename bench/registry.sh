# The topic `registry` of run.sh: our server beside docker-registry and nginx, on loopback. Sourced, not run.
# Of all of them the processor's seconds count, or the time in which the same client is through; all share the cores with it.

SERVER_PORT=${SERVER_PORT:-5056}
NGINX_PORT=${NGINX_PORT:-5057}
SERVER=127.0.0.1:$SERVER_PORT
SERVER_CLIENT=$(dirname "${BASH_SOURCE[0]}")/upload.py
MANIFEST_TYPE=application/vnd.oci.image.manifest.v1+json

# server_start FOLDER: ours, on a folder.
server_start() {
  "$strata" registry serve --root "$1" --addr "$SERVER" > "$BENCH_DIR/server.log" 2> "$BENCH_DIR/server.err" &
  SERVER_PID=$!
  for _ in $(seq 50); do grep -q '^http' "$BENCH_DIR/server.log" && return; sleep 0.1; done
  say "strata registry serve did not start:"; tail -3 "$BENCH_DIR/server.err" >&2; exit 1
}
server_stop() {
  [ -n "${SERVER_PID:-}" ] || return 0
  kill "$SERVER_PID" 2> /dev/null || true; wait "$SERVER_PID" 2> /dev/null || true
  SERVER_PID=
}

# nginx_start FOLDER: one process that sends the folder's files by sendfile.
nginx_start() {
  cat > "$BENCH_DIR/nginx.conf" <<N
daemon off; master_process off; pid $BENCH_DIR/nginx.pid; error_log $BENCH_DIR/nginx.log;
events { }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  server { listen 127.0.0.1:$NGINX_PORT; root $1; }
}
N
  nginx -c "$BENCH_DIR/nginx.conf" 2> "$BENCH_DIR/nginx.log" &
  NGINX_PID=$!
  for _ in $(seq 50); do curl -s "http://127.0.0.1:$NGINX_PORT/" > /dev/null && return; sleep 0.1; done
  say "nginx did not start:"; tail -3 "$BENCH_DIR/nginx.log" >&2; exit 1
}
nginx_stop() {
  [ -n "${NGINX_PID:-}" ] || return 0
  kill "$NGINX_PID" 2> /dev/null || true; wait "$NGINX_PID" 2> /dev/null || true
  NGINX_PID=
}

# A blob of 1 GiB that is no other run's: a new beginning, the rest as it was. Sets `digest`.
new_blob() {
  [ -e "$DISK/blob" ] || openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 0 -in /dev/zero 2> /dev/null | head -c 1073741824 > "$DISK/blob" || true
  echo "$1" | dd of="$DISK/blob" conv=notrunc status=none
  digest=sha256:$(openssl dgst -sha256 -r "$DISK/blob" | cut -c1-64)
}
# Makes room: this blob is not asked for again.
drop_blob() { rm -rf "$DISK"/{ours,theirs}/docker/registry/v2/blobs/sha256/"${1:7:2}/${1:7}"; }

# processor PID: seconds of user and system time so far.
processor() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); printf "%.2f\n", ($12 + $13) / hz }' "/proc/$1/stat"; }

# sending PID URL: processor seconds for each GB, while four clients fetch 1 GiB three times each.
sending() {
  local before client clients=()
  before=$(processor "$1")
  for client in 1 2 3 4; do
    curl -fs -o /dev/null "$2" -o /dev/null "$2" -o /dev/null "$2" & clients+=($!)
  done
  wait "${clients[@]}" || { say "not all of $2 came"; exit 1; }
  awk -v a="$before" -v b="$(processor "$1")" 'BEGIN { printf "%.4f\n", (b - a) / (12 * 1.073741824) }'
}

# asking URL COUNT: milliseconds for a thousand answers, over 64 connections that stay.
asking() {
  ab -q -k -c 64 -n "$2" -H "Accept: $MANIFEST_TYPE" "$1" > "$BENCH_DIR/ab.out" 2> /dev/null || { cat "$BENCH_DIR/ab.out" >&2; exit 1; }
  grep -q '^Non-2xx' "$BENCH_DIR/ab.out" && { say "not all of $1 were answered"; exit 1; }
  awk '/^Requests per second/ { printf "%.3f\n", 1e6 / $4 }' "$BENCH_DIR/ab.out"
}

# An image of one small layer, named bench/app:latest; put as any client puts it.
put_image() {
  local host=$1 name size entries=()
  for name in config layer; do
    head -c 2000 /dev/urandom | base64 > "$BENCH_DIR/$name"
    digest=sha256:$(sha256sum "$BENCH_DIR/$name" | cut -c1-64); size=$(stat -c %s "$BENCH_DIR/$name")
    python3 "$SERVER_CLIENT" "$host" bench/app "$BENCH_DIR/$name" "$digest"
    entries+=("{\"mediaType\":\"application/vnd.oci.image.$name.v1+json\",\"digest\":\"$digest\",\"size\":$size}")
  done
  curl -fsS -o /dev/null -X PUT -H "Content-Type: $MANIFEST_TYPE" "http://$host/v2/bench/app/manifests/latest" \
    -d "{\"schemaVersion\":2,\"mediaType\":\"$MANIFEST_TYPE\",\"config\":${entries[0]},\"layers\":[${entries[1]}]}"
}

# median_of NAME: of an array's values.
median_of() { local -n values=$1; printf '%s\n' "${values[@]}" | median; }

registry() {
  local run digest path chunk=$((16 << 20)) peak
  local sent_ours=() sent_theirs=() sent_nginx=() asked_ours=() asked_theirs=()
  local whole_ours=() whole_theirs=() chunks_ours=() chunks_theirs=()
  fresh_disk
  mkdir -p "$DISK/files"
  registry_start "$DISK/theirs"; server_start "$DISK/ours"
  put_image "$REGISTRY"; put_image "$SERVER"
  digest=
  for run in $(seq "$RUNS"); do
    [ -z "$digest" ] || drop_blob "$digest"
    new_blob "whole $run"
    whole_theirs+=("$(seconds "python3 $SERVER_CLIENT $REGISTRY bench/whole $DISK/blob $digest && sync")")
    whole_ours+=("$(seconds "python3 $SERVER_CLIENT $SERVER bench/whole $DISK/blob $digest && sync")")
    drop_blob "$digest"
    new_blob "chunks $run"
    chunks_theirs+=("$(seconds "python3 $SERVER_CLIENT $REGISTRY bench/chunks $DISK/blob $digest --chunk $chunk && sync")")
    chunks_ours+=("$(seconds "python3 $SERVER_CLIENT $SERVER bench/chunks $DISK/blob $digest --chunk $chunk && sync")")
  done
  # The last blob is in memory for all alike.
  cp "$DISK/blob" "$DISK/files/blob"; nginx_start "$DISK/files"
  path=v2/bench/chunks/blobs/$digest
  for run in $(seq "$RUNS"); do
    sent_nginx+=("$(sending "$NGINX_PID" "http://127.0.0.1:$NGINX_PORT/blob")")
    sent_theirs+=("$(sending "$REGISTRY_PID" "http://$REGISTRY/$path")")
    sent_ours+=("$(sending "$SERVER_PID" "http://$SERVER/$path")")
    asked_theirs+=("$(asking "http://$REGISTRY/v2/bench/app/manifests/latest" 5000)")
    asked_ours+=("$(asking "http://$SERVER/v2/bench/app/manifests/latest" 50000)")
  done
  nginx_stop; registry_stop
  result "blob sent, processor for each GB (s)" "$(median_of sent_ours)" "$(median_of sent_theirs)" 1 docker-registry
  result "blob sent, processor for each GB (s)" "$(median_of sent_ours)" "$(median_of sent_nginx)" 1 "nginx, sendfile"
  result "manifest by tag, 64 connections (ms for 1,000)" "$(median_of asked_ours)" "$(median_of asked_theirs)" 0.125 docker-registry
  result "upload of 1 GiB, monolithic (s)" "$(median_of whole_ours)" "$(median_of whole_theirs)" 0.5 docker-registry
  result "upload of 1 GiB, chunks of 16 MiB (s)" "$(median_of chunks_ours)" "$(median_of chunks_theirs)" 0.5 docker-registry
  # 64 uploads of 1 GiB, of each of which 64 MiB have come; what the server took at most since it was started for this.
  server_stop; server_start "$DISK/ours"
  coproc HOLD { exec python3 "$SERVER_CLIENT" "$SERVER" bench/held "$DISK/blob" - --hold $((64 << 20)) 64; }
  read -r -u "${HOLD[0]}" || { say "64 uploads did not begin"; exit 1; }
  peak=$(awk '/^VmHWM/ { printf "%.1f", $2 / 1024 }' "/proc/$SERVER_PID/status")
  eval "exec ${HOLD[1]}>&-"; wait "$HOLD_PID" 2> /dev/null || true
  within "server's memory with 64 uploads of 1 GiB under way" "$peak" 128 MiB
  server_stop; drop_disk
}
