# Every target needs Go and nothing else; modules come from go.sum.
# `make check` is what CI runs. Long forms stay outside it.

GO ?= go
export CGO_ENABLED ?= $(shell $(GO) env CGO_ENABLED)
BIN := bin
PKGS := ./...
FUZZTIME ?= 3s
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: all build demo test race fuzz-smoke fuzz crash crash-long sim sim-long cover bench lint arch cross check clean help soak histories mutants mutants-short

all: build

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## build bin/bzzz
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o $(BIN)/bzzz ./cmd/bzzz

demo: build ## three nodes, a partition, a heal, explained (about 3 s)
	./$(BIN)/bzzz demo

test: ## all tests
	$(GO) test $(PKGS)

race: ## all tests with the race detector
	$(GO) test -race -timeout 8m $(PKGS)

arch: ## dependency table, package comments, file caps
	$(GO) test ./internal/arch

lint: ## formatting and vet
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi
	$(GO) vet $(PKGS)

cross: ## build without cgo for the systems edge nodes run
	@for t in linux/amd64 linux/arm64 linux/arm windows/amd64 darwin/arm64; do \
		echo "cross-build $$t"; \
		CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build -o /dev/null ./cmd/bzzz || exit 1; \
	done

fuzz-smoke: ## every fuzz target for FUZZTIME (3s)
	@GO="$(GO)" FUZZTIME=$(FUZZTIME) ./internal/arch/fuzz.sh

fuzz: ## every fuzz target for a minute
	@GO="$(GO)" FUZZTIME=60s ./internal/arch/fuzz.sh

crash: ## kill -9 under load, 50 times
	$(GO) test -run 'TestKill' -count=1 -v ./engine | grep -vE '^=== '

crash-long: ## kill -9 under load, 2,000 times
	BZZZ_KILLS=2000 $(GO) test -run 'TestKill' -count=1 -timeout 60m -v ./engine | grep -vE '^=== '

sim: ## clusters on a simulated network, short
	$(GO) test -count=1 ./engine/enginetest

sim-long: ## clusters on a simulated network, many seeds
	BZZZ_LONG=1 $(GO) test -count=1 -timeout 60m ./engine/enginetest

mutants: ## plant the faults of docs/KERNEL.md: each must fail its test (about 30 s)
	@GO="$(GO)" ./internal/arch/mutants.sh

mutants-short: ## those of the kernel and the session
	@GO="$(GO)" ./internal/arch/mutants.sh short

soak: sim-long crash-long ## the long forms

cover: ## test coverage by package
	$(GO) test -cover $(PKGS)

bench: build ## the scenarios of docs/BENCHMARKS.md on this machine, small
	./$(BIN)/bzzz bench -scale small

histories: ## random histories of the kernel, whole
	$(GO) test -run 'CollectedDeletes|DamageDeletes' ./engine/replica

check: lint race histories mutants-short cross build ## what CI runs
	./$(BIN)/bzzz replay -q testdata/edits-a.jsonl.gz
	./$(BIN)/bzzz demo -q
	@echo "check: all green"

clean: ## remove what was built
	rm -rf $(BIN)
