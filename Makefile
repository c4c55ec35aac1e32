# The targets, for people and for CI. The lab's targets need root: they make network namespaces, mounts and control groups.
#
#   make setup        install what a bare Debian machine lacks
#   make build        bin/catamaran
#   make demo         two real clusters with their platform on this machine; make demo-down removes them
#   make test         everything below, up to the first part that fails; ends with what failed and a count
#     make lint         golangci-lint with .golangci.yml
#     make components   build Kubernetes and its friends for the lab, once; later runs find them in the cache
#     make unit         tests of the product, with the race detector
#     make integration  tests against a real API server, of the lab and of its stand-ins
#     make e2e          both clusters on the lab's hosts
#   make cloud        tests against a real OpenStack, whose servers become hosts of the lab; not among the others
#   make cloud-story  two clusters on servers of a real OpenStack, from an empty project and back; not among the others
#   make vsphere      the same on virtual machines of a vCenter (a simulator); not among the others
#   make bench        the benchmarks of test/bench; the last, bench-idle, wants an installed site (make demo)
#   make chaos        ten minutes of records while parts of a lab that is up (make demo) die; CHAOS= more of its flags
#   make e2e-vagrant  the e2e tests on virtual machines
#   make clean

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# A clone may belong to somebody else than root, and git refuses to speak of such.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),unknown)

TOOL := go tool -modfile=test/tools/go.mod
# Reports of the last test run, one file of JSON lines for each part.
REPORTS := .cache/reports
# $(call tests,PART) is the program that runs a part's tests: arguments of go test follow.
tests = mkdir -p $(REPORTS) && $(TOOL) gotestsum --format pkgname-and-test-fails --jsonfile $(REPORTS)/$(1).json --
# $(call told,PART,COMMAND) runs a part that is no test; what it said stays for the summary where it failed.
told = mkdir -p $(REPORTS); rm -f $(REPORTS)/$(1).failed; ($(2)) 2>&1 | tee $(REPORTS)/$(1).txt || { mv $(REPORTS)/$(1).txt $(REPORTS)/$(1).failed; exit 1; }
# Every package belongs to one part: nothing is forgotten when a folder is added.
unit_packages        = $$(go list ./... | grep -v -e /test/charts -e /test/kubeadm -e /test/lab -e /test/e2e -e '/test/chaos$$' -e /test/openstack -e /test/vsphere -e /provider/vsphere)
integration_packages = $$(go list ./... | grep -e /test/charts -e /test/kubeadm -e /test/lab | grep -v '/test/lab/openstack$$')
# Modules of their own, which ./... does not see.
standins = $(wildcard test/lab/standin/*)
tested_standins = $(sort $(dir $(wildcard test/lab/standin/*/*_test.go)))

LAB_DIR := /var/lib/catamaran-lab
LAB := bin/lab --dir $(LAB_DIR)
INVENTORY := $(LAB_DIR)/site/inventory.yaml

.PHONY: all setup build test parts lint components unit integration e2e cloud cloud-story vsphere e2e-vagrant bench bench-plan bench-apply bench-ingest bench-idle chaos summary demo demo-down clean root FORCE
all: build

setup:
	.ci/setup

build: bin/catamaran

# go build knows what is up to date
bin/catamaran: FORCE
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/catamaran

bin/lab: FORCE
	go build -o $@ ./test/lab

# The linter and the lab's components share both processors; neither minds. Tests begin when both are done, since some
# of them measure time.
parts: root
	rm -rf $(REPORTS)
	$(MAKE) -j2 lint components
	$(MAKE) unit
	$(MAKE) integration
	$(MAKE) e2e

test: root
	@status=0; $(MAKE) parts || status=$$?; $(MAKE) summary || status=$$((status ? status : 1)); exit $$status

# A cache of its own for each clone: what the linter keeps names files of the clone that it ran in, and rules for
# folders do not match those from another.
lint:
	export GOLANGCI_LINT_CACHE=$(CURDIR)/.cache/golangci-lint; linter=$$($(TOOL) -n golangci-lint); \
	$(call told,lint,for dir in . $(standins); do (cd $$dir; $$linter run --config $(CURDIR)/.golangci.yml ./...) || exit; done)

components: root bin/lab
	$(call told,components,bin/lab build)

# vSphere's simulator has variables that all vCenters of a process share, and writes them for each new one: the race detector finds these.
unit:
	$(call tests,unit) -race -timeout 15m $(unit_packages)
	$(call tests,unit-vsphere) -timeout 10m ./provider/vsphere

integration: root components
	$(call tests,integration) -race -timeout 20m $(integration_packages)
	runner=$$($(TOOL) -n gotestsum); \
	for dir in $(tested_standins); do (cd $$dir; $$runner --format pkgname-and-test-fails \
	  --jsonfile $(CURDIR)/$(REPORTS)/standin-$$(basename $$dir).json -- -race -timeout 5m ./...) || exit; done

e2e: root build components
	$(call tests,e2e) -timeout 75m -count=1 ./test/e2e/...

# A cloud takes 2.5 GiB, and both processors while it starts: one at a time.
cloud: root build components
	bin/lab openstack install
	$(call tests,cloud) -timeout 60m -count=1 ./test/lab/openstack
	bin/lab openstack up
	status=0; $(call tests,cloud-provider) -timeout 100m -count=1 ./test/openstack -stride 12 -parallel 4 \
	  -clouds-file /var/lib/catamaran-openstack/clouds/clouds.yaml -cloud workload -flavor small -external public || status=$$?; \
	bin/lab openstack down --purge && exit $$status

# The stories start the clouds that they need, and take them down.
cloud-story: root build components
	bin/lab openstack install
	$(call tests,cloud-story) -timeout 150m -count=1 ./test/openstack/story

vsphere: root build components
	$(call tests,vsphere) -timeout 120m -count=1 ./test/vsphere

# A skipped test is one that nobody notices any more: it counts as failed. What failed comes last, so that a log's end tells.
summary:
	@go run ./test/failures $(REPORTS) || true
	@cat $(REPORTS)/*.json 2>/dev/null | awk ' \
	  /"Test":"/ && /"Action":"pass"/ { passed++ } \
	  /"Test":"/ && /"Action":"fail"/ { failed++ } \
	  /"Test":"/ && /"Action":"skip"/ { skipped++; print "skipped: " $$0 } \
	  END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit !(passed && !failed && !skipped) }'

e2e-vagrant:
	vagrant up
	go run ./test/vagrant -out .cache/vagrant/site/inventory.yaml
	E2E_INVENTORY=$(CURDIR)/.cache/vagrant/site/inventory.yaml go test -timeout 120m -count=1 -v ./test/e2e/...

bench: bench-plan bench-apply bench-ingest bench-idle

bench-plan: root build
	go run ./test/bench/noop -catamaran bin/catamaran

bench-apply: root build bin/lab
	go run ./test/bench/coldapply

# Not among the tests: it needs a lab with the platform, and a quarter of an hour. The e2e tests do the same in short.
chaos: root
	go test -timeout 40m -count=1 -v ./test/chaos -site $(INVENTORY) $(CHAOS)

# its programs are components of the lab, built where the cache lacks them
bench-ingest:
	go run ./test/bench/ingest

# of any site: make bench-idle INVENTORY=FILE
bench-idle:
	@[ -f $(INVENTORY) ] || { echo "make: bench-idle measures an installed site and there is no $(INVENTORY): make demo, or name one by INVENTORY=FILE" >&2; exit 1; }
	go run ./test/bench/idle -f $(INVENTORY)

demo: root setup
	$(MAKE) build bin/lab
	$(LAB) up --service 1+1 --workload 1+1 --platform small
	bin/catamaran apply -f $(INVENTORY) --yes
	@echo; echo "== once more: nothing is left to do"
	bin/catamaran apply -f $(INVENTORY) --yes
	bin/catamaran plan -f $(INVENTORY)
	@echo; echo "== what stands now"
	bin/catamaran status -f $(INVENTORY)
	@for c in service workload; do \
	  node=$$([ $$c = service ] && echo sc-cp-1 || echo wc-cp-1); \
	  echo; echo "== pods of the $$c cluster, by kubectl on $$node"; \
	  bin/catamaran ssh -f $(INVENTORY) $$node -- sudo kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes,pods -A -o wide; \
	done
	@echo; echo "== what happens in the workload cluster is seen in the service cluster"
	bin/catamaran verify canary -f $(INVENTORY) --bucket --bucket-timeout 2m
	bin/catamaran verify chain -f $(INVENTORY)
	@echo; echo "== to look around (make demo-down removes it all):"
	@sed 's|@catamaran|bin/catamaran|; s|@inventory|-f $(INVENTORY)|; s|@site|$(LAB_DIR)/site/cat0.catamaran|; s|@lab|$(LAB)|' test/lab/look.txt

demo-down: root bin/lab
	$(LAB) down --purge

clean:
	rm -rf bin .cache

root:
	@[ "$$(id -u)" = 0 ] || { echo "make: this target makes network namespaces, mounts and control groups: run it as root (sudo make $(MAKECMDGOALS))" >&2; exit 1; }
