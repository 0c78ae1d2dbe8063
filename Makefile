# One way to do each thing. `make` alone lists them.

CARGO ?= cargo
# Where `make servers` keeps what it installs from PyPI and npm.
SERVERS = $(or $(CARGO_TARGET_DIR),target)/servers
# As well for `make clients`.
CLIENTS = $(or $(CARGO_TARGET_DIR),target)/clients
# Servers lie where the path of an ordinary user does not lead.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
# Most tests wait for processes and not for a core.
export RUST_TEST_THREADS ?= $(shell expr 2 \* "$$(nproc)")

.PHONY: help run build build-tuned test test-engine test-long model crash faults fleet-chaos attack servers clients fuzz lane-faults check bench bench-fleet bench-peers bench-instructions load soak storm deps clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

run: deps ## build and start `ds-gateway demo`; RELEASE=1 optimises, ARGS="--port 8443" is passed on
	$(CARGO) run --locked $(if $(RELEASE),--release) -- demo $(ARGS)

build: deps ## the release binary: target/release/ds-gateway
	$(CARGO) build --locked --release

build-tuned: deps ## the same, built with a profile of itself under load, small requests 8 to 10 % cheaper: target/tuned/ds-gateway
	@CARGO="$(CARGO)" .ci/tuned

test: deps ## every test, the longest in a short form
	$(CARGO) test --locked
	$(MAKE) test-engine
	@# Where a library's test chooses at random, once more what is the same in every run.
	PROPTEST_RNG_SEED=1 SIMULATION_SEED=1 $(CARGO) test --locked --lib
	$(MAKE) model

test-engine: deps ## the integration tests with server.fast_lane = false, part of test: the engine serves what the fast lane would
	FAST_LANE=false $(CARGO) test --locked --test it

test-long: deps ## every test in its long form: all orders of the model, 300 kills, faults held for long, a million old rows, gigabytes, many more random cases
	CRASH_ROUNDS=300 HOUSEKEEPING_ROWS=1000000 LARGE_MEGABYTES=1024 PROPTEST_CASES=4096 SIMULATION_RUNS=100 SIMULATION_STEPS=5000 LANE_CASES=3000 LANE_REQUESTS=6000 SOURCE_USERS=10000 $(CARGO) test --locked
	$(MAKE) test-engine
	$(MAKE) faults
	$(MAKE) attack
	$(MAKE) servers
	$(MAKE) clients
	$(MAKE) model PREEMPTIONS=0

model: deps ## the core's threads in many orders of their steps, part of test; PREEMPTIONS=N interrupts them N times (4), 0: all orders
	$(if $(PREEMPTIONS),LOOM_MAX_PREEMPTIONS=$(PREEMPTIONS)) $(CARGO) test --locked --lib --features model auth::model

crash: deps ## kill -9 at random moments, ROUNDS=1000 times; test does 16. CRASH_SEED=N repeats a run
	CRASH_ROUNDS=$(or $(ROUNDS),1000) $(CARGO) test --locked --test it -- --nocapture killed_at_random_moments

faults: deps ## the disk fails, hangs, fills up; files of the store vanish: each held for HOLD=70 seconds, longer than every bound
	FAULT_SECONDS=$(or $(HOLD),70) $(CARGO) test --locked --test it -- --nocapture disk::

fleet-chaos: deps ## three gateways and their database, killed, paused and cut off for SECONDS=1800; test has 20 seconds of it. CHAOS_SEED=N repeats one
	CHAOS_SECONDS=$(or $(SECONDS),1800) $(CARGO) test --locked --test it -- --nocapture chaos::

attack: deps ## every attack alongside legitimate clients, for SECONDS=60 each, and what those measured; test has a short form. ATTACK_SEED=N repeats one
	ATTACK_SECONDS=$(or $(SECONDS),60) $(CARGO) test --locked --test it -- --nocapture attack::

servers: deps ## nginx, Apache, PHP, Tomcat, lighttpd and frameworks of PyPI and npm behind the gateway, installed if missing. SERVERS_SEED=N repeats a run
	@.ci/servers $(SERVERS)
	REAL_SERVERS=$(SERVERS) $(CARGO) test --locked --test it -- --nocapture servers::

clients: deps ## real clients and balancers in front of the gateway: Java, Apache HttpClient, Python, Node, Go, ApacheBench, curl, nginx, HAProxy, a browser, the WebSocket cases of Autobahn; installed if missing
	@.ci/clients $(CLIENTS)
	REAL_CLIENTS=$(CLIENTS) $(CARGO) test --locked --test it -- --nocapture clients::

fuzz: deps ## coverage-guided fuzzing of the parsers, for SECONDS=60 each; TARGET=path: one of them, INPUT=FILE: with one input
	@.ci/deps c++ build-essential
	@CARGO="$(CARGO)" .ci/fuzz $(or $(SECONDS),60) $(TARGET) $(INPUT)

lane-faults: deps ## faults planted in the fast lane, each of which its tests must find; FAULTS="3 7": those of .ci/lane-faults
	@CARGO="$(CARGO)" .ci/lane-faults $(FAULTS)

check: deps ## format, lints, documentation, dependencies
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --lib --tests --features model -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	.ci/audit

bench: deps ## one decision, then a comparison with bare pingora (docs/benchmarks.md); ROUNDS=20 REQUESTS=20000
	$(CARGO) bench --locked --bench admit
	$(CARGO) bench --locked --bench proxy

bench-fleet: deps ## several gateways on one PostgreSQL: propagation, what the database is asked, starts; GATEWAYS=3,20,100 RATE=1000 ROWS=10000000, ONLY=starts: the second part, FOLDER=/var/tmp: where the database is
	POSTGRES_FOLDER=$(or $(FOLDER),/var/tmp) $(CARGO) bench --locked --bench fleet

bench-peers: deps $(if $(filter 1,$(TUNED)),build-tuned) ## compare the gateway with HAProxy, nginx and Envoy, which are installed if missing: saturated, paced, with 1, 2 and 4 threads, over HTTP/2; ROUNDS=20 REQUESTS=20000, ONLY=paced: tables so named, TUNED=1 adds the tuned build
	@.ci/peers
	ENVOY=$(CURDIR)/target/peers/envoy/_bin/envoy $(if $(filter 1,$(TUNED)),OTHER="tuned build=$(CURDIR)/target/tuned/ds-gateway") \
		$(CARGO) bench --locked --bench proxy -- peers

load: deps ## 2,000 clients for a minute, half of it during a login storm; CLIENTS=2000 RATE=10000 DURATION=60
	$(CARGO) bench --locked --bench proxy -- held

soak: deps ## the same for an hour; DURATION=3600
	DURATION=$(or $(DURATION),3600) $(CARGO) bench --locked --bench proxy -- held

storm: deps ## storms of logins, logins on busy cores, times of failed logins; DURATION=20 SAMPLES=1000, PARTS=once,storms,floor,times, ONLY=/24: storms so named
	$(CARGO) bench --locked --bench proxy -- storm

bench-instructions: deps ## instructions of a decision, a mint and a request, compared with the recorded ones; UPDATE=1 keeps the new ones
	@.ci/deps valgrind valgrind
	$(CARGO) bench --locked --bench proxy -- instructions

deps: ## what build and tests need from the system
	@.ci/deps

clean: ## remove what was built
	$(CARGO) clean
