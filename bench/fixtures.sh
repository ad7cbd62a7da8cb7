#!/usr/bin/env bash
# Makes the images that the benchmarks use, as archives in $BENCH_DIR/images; what is there is kept.
#   app.tar      Debian, python3, a big tree of wheels, deletions and replaced directories: 7 layers, about 1 GB
#   busybox.tar  one file
set -euo pipefail
. "$(dirname "$0")/lib.sh"
trap 'docker_stop' EXIT

if [ ! -e "$IMAGES/busybox.tar" ] || [ ! -e "$IMAGES/app.tar" ]; then
  docker_start "$BENCH_DIR/docker-fixtures"
fi

if [ ! -e "$IMAGES/busybox.tar" ]; then
  tree=$BENCH_DIR/busybox; rm -rf "$tree"; mkdir -p "$tree/bin" "$tree/etc" "$tree/tmp"
  cp "$(command -v busybox)" "$tree/bin/busybox"
  for name in sh true false cat ls sleep echo; do ln -s busybox "$tree/bin/$name"; done
  tar -C "$tree" --owner 0 --group 0 -c . | docker import -c 'CMD ["/bin/sh"]' - busybox > /dev/null
  docker save -o "$IMAGES/busybox.tar" busybox
fi

if [ ! -e "$IMAGES/app.tar" ]; then
  context=$BENCH_DIR/app; mkdir -p "$context/app/static"
  if [ ! -e "$context/base.done" ]; then
    rm -rf "$context/base"
    debootstrap --variant=minbase --include=ca-certificates "${SUITE:-bookworm}" "$context/base" > "$BENCH_DIR/debootstrap.log" 2>&1
    rm -rf "$context"/base/var/cache/apt/archives/*.deb; : > "$context/base.done"
  fi
  if [ ! -e "$context/py.done" ]; then
    rm -rf "$context/py"
    pip install -q --no-compile --root-user-action ignore --target "$context/py" numpy pandas scipy scikit-learn matplotlib sympy networkx requests \
      flask sqlalchemy django botocore jupyterlab > "$BENCH_DIR/pip.log" 2>&1
    : > "$context/py.done"
  fi
  for i in $(seq 300); do head -c $((i * 37)) /dev/urandom | base64 > "$context/app/static/f$i.txt"; done
  echo 'print("hello")' > "$context/app/main.py"
  printf 'base\nbase.done\npy.done\n' > "$context/.dockerignore"
  tar -C "$context/base" --numeric-owner -c . | docker import -c 'CMD ["/bin/bash"]' - base > /dev/null
  cat > "$context/Dockerfile" <<'D'
FROM base
ENV LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip python3-setuptools && rm -rf /var/lib/apt/lists/*
ENV PYTHONUNBUFFERED=1
COPY py /usr/local/lib/python3.11/dist-packages
RUN useradd -u 1000 app
COPY --chown=app app /srv/app
RUN rm -rf /usr/share/doc /usr/share/man /usr/share/locale && find /usr/local/lib/python3.11/dist-packages -name tests -type d -prune -path '*/sympy/*' -exec rm -rf {} +
RUN rm -rf /etc/apt /usr/lib/python3/dist-packages/pip && mkdir -p /etc/apt /usr/lib/python3/dist-packages/pip && echo hidden > /etc/apt/new && ln -s new /etc/apt/link
WORKDIR /srv/app
CMD ["python3","/srv/app/main.py"]
D
  DOCKER_BUILDKIT=0 docker build --network host -t app "$context" > "$BENCH_DIR/build.log" 2>&1
  docker save -o "$IMAGES/app.tar" app
fi
docker_stop
ls -l "$IMAGES" >&2
