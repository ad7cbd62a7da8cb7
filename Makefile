# Two commands on a fresh Debian or Ubuntu machine with Rust: `make demo` runs the main job, `make test` passes the tests.

CARGO ?= cargo
BIN := target/release/strata
# POSIX tests, run on our union (BSD-2-Clause; a program beside the tests, no part of ours).
PJDFSTEST := 0.2.2
# A peer of our union, run beside it (GPL: a program beside the benchmark, no part of ours).
FUSE_OVERLAYFS := 2.0.0

.PHONY: build symbols demo test lint bench fuzz load man install

build:            ## the release binary, target/release/strata
	scripts/packages.sh build
	$(CARGO) build --release --locked --package strata-cli

symbols:          ## target/symbols/strata, as `build` makes it, and its symbols beside it in strata.debug
	scripts/packages.sh build
	$(CARGO) build --profile symbols --locked --package strata-cli
	cd target/symbols && objcopy --only-keep-debug strata strata.debug && \
	  objcopy --strip-all --add-gnu-debuglink=strata.debug strata

demo: build       ## one image's way through the store, on a real Debian root
	scripts/packages.sh demo
	scripts/demo.sh $(BIN)

test:             ## every test; those that lack a right or a program are counted as skipped, with the reason
	scripts/packages.sh test
	@test -e target/tools/pjdfstest-$(PJDFSTEST) || { \
	  $(CARGO) install --locked --quiet --root target/tools --version $(PJDFSTEST) pjdfstest && \
	  touch target/tools/pjdfstest-$(PJDFSTEST); } || echo "pjdfstest cannot be built: its tests are skipped"
	$(CARGO) xtask test

lint:             ## format, clippy, direction and use of dependencies, licences
	scripts/packages.sh build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) xtask deps
	$(CARGO) xtask unused
	$(CARGO) xtask flags
	$(CARGO) xtask licences

bench: build      ## Strata beside Docker, as ratios; BENCH="load save" picks topics
	scripts/packages.sh bench
	@test -x target/tools/bin/fuse-overlayfs || \
	  $(CARGO) install --locked --quiet --root target/tools --version $(FUSE_OVERLAYFS) fuse-overlayfs || \
	  echo "fuse-overlayfs $(FUSE_OVERLAYFS) cannot be built: it is left out"
	bench/run.sh $(BIN) $(BENCH)

load: build       ## the whole load test in containers (packages, a build, git, a database, 60,000 files), on unions of ours and overlay2
	scripts/packages.sh test
	STRATA_LOAD=full $(CARGO) test --locked --release --package strata-cli --test real_load -- --nocapture

fuzz:             ## every fuzz target for FUZZ_SECONDS (30)
	fuzz/run.sh $(or $(FUZZ_SECONDS),30)

man: build        ## man pages into target/man
	$(BIN) man target/man

install: build    ## into $(DESTDIR)/usr/local
	install -D -m 755 $(BIN) $(DESTDIR)/usr/local/bin/strata
	$(BIN) man $(DESTDIR)/usr/local/share/man/man1
