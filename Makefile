# Everything a developer types. "make help" lists it.

GO       ?= go
FUZZTIME ?= 10s
ROUNDS   ?= 10

# Tools are run at a fixed version, from source.
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The modules beside the main one: what they need stays out of it.
MODULES := hack/bench hack/conformance hack/s3
# Those without tests that run by themselves: they are what tests on a cluster need.
# hack/k8s/knative names programs to build, and has no code.
CLUSTER := hack/k8s/knative hack/k8s/tools hack/k8s/tools/coredns hack/k8s/certmanager hack/rekt

.DEFAULT_GOAL := help
.PHONY: help demo run build test simulate test-cluster e2e test-long lint lint-cluster fuzz bench-hop bench-colocate bench-load bench-scale bench-scale-brokers bench-payload bench-backend bench-swap bench-failover bench generate clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-19s %s\n", $$1, $$2}'

demo: ## send real events through the sample flows, print their ways, exit
	@$(GO) run ./hack/demo

run: ## the same, but stay up and print the curl line to try
	@$(GO) run ./hack/demo --stay

build: ## build bin/dispatcher and bin/sidecar
	$(GO) build -trimpath -o bin/ ./cmd/...

test: ## every test, with the race detector, in random order
	$(GO) test -race -shuffle=on -timeout 20m ./...
	@for m in $(MODULES); do echo "$(GO) -C $$m test ./..."; $(GO) -C $$m test -race -shuffle=on -timeout 20m ./... || exit 1; done
	@hack/kafka which

test-cluster: ## test the controller against a real API server (as root; builds one once, in minutes)
	hack/k8s/with-control env SIDESTEP_CLUSTER=1 $(GO) test -race -count=1 -timeout 20m ./kube/livetest/

e2e: ## all on a real cluster: install, our tests, Knative's own suite, uninstall (as root; about 40 minutes)
	hack/e2e

simulate: ## ten thousand histories of the engine with faults, and of the choice of pods, in simulated time (a minute)
	SIDESTEP_SEEDS=10000 $(GO) test -count=1 -run NoEventIsLostInAnySimulated ./channel/
	$(GO) test -count=1 -run BetterOfStaying ./colocate/balance/

test-long: ## the tests that kill processes, with larger counts, and those of a cluster (about 25 minutes)
	SIDESTEP_LONG=1 $(GO) test -count=1 -timeout 60m -v -p 1 ./cmd/dispatcher/ ./channel/backend/natsbackend/ ./channel/backend/kafkabackend/

lint: ## format, vet, staticcheck, tidy and generated files
	@bad=$$($(GO) run $(GOFUMPT) -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "not formatted (gofumpt):"; echo "$$bad"; exit 1; }
	@for m in . $(MODULES); do \
		echo "lint $$m"; \
		$(GO) -C $$m vet ./... && $(GO) -C $$m mod tidy -diff && \
		(cd $$m && $(GO) run $(STATICCHECK) ./...) || exit 1; \
	done
	$(GO) vet -tags 'gcs azure' ./claimcheck/...
	@hack/check-generated

lint-cluster: ## the same for what tests on a cluster need, which is as large as Kubernetes (20 minutes)
	@hack/rekt/framework
	@for m in $(CLUSTER); do \
		tags=; [ $$m != hack/rekt ] || tags=e2e; \
		echo "lint $$m"; \
		$(GO) -C $$m mod tidy -diff || exit 1; \
		[ $$m != hack/k8s/knative ] || continue; \
		$(GO) -C $$m vet -tags "$$tags" ./... && (cd $$m && $(GO) run $(STATICCHECK) -tags "$$tags" ./...) || exit 1; \
	done

fuzz: ## run each fuzz test for FUZZTIME (10s)
	@hack/fuzz $(FUZZTIME)

bench-hop: ## compare hops and throughput side by side (about 10 minutes); writes docs/perf.md
	$(GO) -C hack/bench run ./hop -rounds $(ROUNDS) -write $(CURDIR)/docs/perf.md

bench-colocate: ## compare a chain within a pod with its yardsticks, side by side, and payloads there (about 10 minutes); writes docs/perf.md
	$(GO) -C hack/bench run ./hop -colocate -rounds $(ROUNDS) -write $(CURDIR)/docs/perf.md
	$(GO) -C hack/bench run ./payload -colocate -rounds $(ROUNDS) -write $(CURDIR)/docs/perf.md

bench-load: ## compare chains in pods under load, also behind slow links (as root, 8 minutes a round); writes docs/perf.md
	$(GO) -C hack/bench run ./load -rounds $(ROUNDS) -write $(CURDIR)/docs/perf.md

bench-scale: ## measure 5,000 channels in one process (about 5 minutes); writes docs/perf.md
	$(GO) -C hack/bench run ./scale -write $(CURDIR)/docs/perf.md

bench-scale-brokers: ## measure 5,000 channels in one process, and in three that share them, on NATS and on Kafka (about 25 minutes); writes docs/perf.md
	$(GO) -C hack/bench run ./scale -backend nats -replicas 1,3 -write $(CURDIR)/docs/perf.md
	$(GO) -C hack/bench run ./scale -backend kafka -replicas 1,3 -write $(CURDIR)/docs/perf.md

bench-payload: ## compare how payloads up to 512 MiB travel (about 30 minutes); writes docs/perf.md
	$(GO) -C hack/bench run ./payload -rounds $(ROUNDS) -write $(CURDIR)/docs/perf.md

bench-swap: ## measure changes of the backend under load (about 3 minutes); writes docs/perf.md
	$(GO) -C hack/bench run ./swap -rounds $(ROUNDS) -write $(CURDIR)/docs/perf.md

bench-backend: ## compare the Kafka backend with franz-go on one broker, and a Sequence on it (about 7 minutes); writes docs/perf.md
	$(GO) -C hack/bench run ./backend -rounds $(ROUNDS) -write $(CURDIR)/docs/perf.md

bench-failover: ## kill one of three processes that share 5,000 logs on a broker (about 10 minutes); writes docs/perf.md
	$(GO) -C hack/bench run ./failover -write $(CURDIR)/docs/perf.md

bench: ## the microbenchmarks, with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./channel/...

generate: ## make generated files anew
	$(GO) generate ./...

clean: ## remove what was built
	rm -rf bin hack/rekt/bin hack/rekt/out hack/rekt/.reconciler-test
