# One way to do each thing. `make` alone lists them.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help run build test check bench deps clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

run: deps ## build and start `ds-gateway demo`; RELEASE=1 optimises, ARGS="--port 8443" is passed on
	$(CARGO) run --locked $(if $(RELEASE),--release) -- demo $(ARGS)

build: deps ## the release binary: target/release/ds-gateway
	$(CARGO) build --locked --release

test: deps ## every test
	$(CARGO) test --locked

check: deps ## format, lints, documentation, dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	.ci/audit

bench: deps ## one decision, then beside bare pingora (docs/benchmarks.md); ROUNDS=20 REQUESTS=20000
	$(CARGO) bench --locked --bench admit
	$(CARGO) bench --locked --bench proxy

deps: ## what build and tests need from the system
	@.ci/deps

clean: ## remove what was built
	$(CARGO) clean
