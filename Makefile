# Every target a developer needs; `make help` lists them.

# The Node that the executable is made of also runs the tools (the machine's own may be older).
NODE := node_modules/node-linux-$(if $(filter aarch64,$(shell uname -m)),arm64,x64)/bin/node
# A machine's list of extra certificates would cost every start of Node 30 ms.
unexport NODE_EXTRA_CA_CERTS
unexport NODE_OPTIONS

# Which of the two executables is installed, shown, tested and measured: static, or node for the one that contains a Node.
export ENGINE = static
# For which processor an executable is built, and the lab's machine is: this machine's, or arm64.
export ARCH =
# Which of Debian's kernels the lab's machine has: 5.10, 6.1, 6.12 or newest; lab/kernels.ts has the usual one.
export KERNEL =
EXECUTABLE = dist/sriov$(if $(filter node,$(ENGINE)),,-static)$(if $(filter arm64,$(ARCH)),-arm64)
# With the one for arm64, where it can be cross-built.
BOTH = dist/sriov dist/sriov-static $(if $(filter x86_64,$(shell uname -m)),dist/sriov-static-arm64)

VITEST = $(NODE) node_modules/vitest/vitest.mjs run
CNI_BIN = /opt/cni/bin
NETAVARK_PLUGINS = /usr/libexec/netavark
# Where deploy/sriov-docker.service has it.
DOCKER_DRIVER = /usr/libexec/sriov
SYSTEMD_UNITS = /etc/systemd/system
IMAGE = sriov-cni:$(shell sed -n 's/.*"version": "\(.*\)".*/\1/p' package.json)
BUILDER = podman
ARCHS = amd64 arm64
COMMA = ,
EMPTY =
PLATFORMS = --platform $(subst $(EMPTY) ,$(COMMA),$(ARCHS:%=linux/%))
HOURS = test/lab/kernels test/lab/containerd test/lab/crash test/lab/error-matrix test/lab/vf-in-reset test/lab/device-vanishes test/lab/dpdk test/lab/storm test/lab/docker test/lab/fuzz test/lab/rdma
# What a kernel can make a difference to; the usual one has all suites.
KERNELS = 5.10 6.1 newest
KERNEL_SUITES = test/lab/attach test/lab/recovery
SOURCES = $(shell find src -name '*.ts')
ENGINE_SOURCES = $(wildcard src/engine/*.[chS] src/engine/*.ld) src/kernel/native/system.c build/bytecode.c \
  build/static.ts build/linked-in.ts build/executable.ts build/toolchain.ts build/engine-sources.ts

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 18

build: $(if $(ARCH),dist/sriov-static-$(ARCH),dist/sriov dist/sriov-static) ## make the executables dist/sriov-static and dist/sriov; ARCH=arm64

install: $(EXECUTABLE) ## install it in /opt/cni/bin of this host (DESTDIR=, CNI_BIN=, ENGINE=node)
	sh deploy/install.sh --dir $(CNI_BIN) install $(EXECUTABLE)

uninstall: ## remove it again
	sh deploy/install.sh --dir $(CNI_BIN) uninstall

install-podman: $(EXECUTABLE) ## install it as Podman's plugin (DESTDIR=, NETAVARK_PLUGINS=, ENGINE=node)
	sh deploy/install.sh --dir $(NETAVARK_PLUGINS) install $(EXECUTABLE)

uninstall-podman: ## remove that again
	sh deploy/install.sh --dir $(NETAVARK_PLUGINS) uninstall

install-docker: dist/sriov ## install it as Docker's network driver, with systemd's units (DESTDIR=, SYSTEMD_UNITS=)
	sh deploy/install.sh --dir $(DOCKER_DRIVER) --units $(SYSTEMD_UNITS) install dist/sriov

uninstall-docker: ## remove that again
	sh deploy/install.sh --dir $(DOCKER_DRIVER) --units $(SYSTEMD_UNITS) uninstall

demo: $(EXECUTABLE) ## show a real VF in a pod, in the lab; ARCH=arm64
	$(NODE) lab/cli.ts run lab/demo.sh

test: lint $(BOTH) ## run every test: unit, network namespaces, lab
	@# Where nothing is cached and the machine is busy, this takes longer than a test may.
	$(NODE) lab/cli.ts fetch
	$(NODE) lab/cli.ts fetch --arch arm64
	$(NODE) lab/cli.ts fetch --kernel 5.10
	$(NODE) lab/cli.ts fetch --kernel newest
	$(VITEST)

test-unit: dist/native/system.node ## run the unit tests
	$(VITEST) --project unit

test-netns: $(BOTH) ## run the tests in network namespaces, of the engine, and the budgets of instructions
	$(VITEST) --project netns

test-lab: $(EXECUTABLE) ## run the tests in the lab; T=pattern picks files, ENGINE=node the other executable, ARCH=arm64 or KERNEL=5.10 another lab
	$(VITEST) --project lab $(T)

bench: $(EXECUTABLE) ## measure: start-up, ADD and DEL in the lab, growth; ONLY=start-up,instructions,lab,growth OUT=docs/performance.md BEFORE=executable
	$(NODE) bench/main.ts $(if $(ONLY),--only $(ONLY)) $(if $(OUT),--out $(OUT)) $(if $(BEFORE),--before $(BEFORE))

soak: $(BOTH) ## run all of the error and crash matrices, storm and fuzz, and every kernel (hours); SEED=2 makes other choices
	SOAK=1 $(VITEST) --project unit --project netns test/unit/cni/fuzz test/netns/differential
	SOAK=1 $(VITEST) --project lab $(HOURS)
	SOAK=1 ENGINE=node $(VITEST) --project lab $(HOURS)
	for kernel in $(KERNELS); do KERNEL=$$kernel $(VITEST) --project lab $(KERNEL_SUITES) || exit; done

lab: $(EXECUTABLE) ## open a shell in the lab, or run a script there: RUN=script.sh PFS=2 FILES="a b" ARCH=arm64 KERNEL=5.10
	@$(NODE) lab/cli.ts $(if $(RUN),run $(RUN),shell) $(if $(PFS),--pfs $(PFS)) $(addprefix --file ,$(FILES)) $(addprefix --disk ,$(DISKS)) $(if $(filter 0,$(IOMMU)),--no-iommu)

sbom: dist/sriov.cdx.json ## list what the executable is made of: dist/sriov.cdx.json, dist/third-party-licences.txt

IMAGE_FILES = $(if $(filter node,$(ENGINE)),dist/sriov,$(ARCHS:%=dist/sriov-static-%))
image: $(IMAGE_FILES) dist/sriov.cdx.json ## build the DaemonSet's image: IMAGE=, ARCHS="amd64 arm64", BASE=, BUILDER=docker, ENGINE=node
	$(BUILDER) build -f deploy/Containerfile $(if $(BASE),--build-arg BASE=$(BASE)) \
	  $(if $(filter node,$(ENGINE)),--build-arg EXECUTABLE=dist/sriov -t,$(PLATFORMS) $(if $(filter podman,$(BUILDER)),--manifest,-t)) $(IMAGE) .

lint: node_modules/.package-lock.json ## check types, style and formatting
	$(NODE) node_modules/typescript/bin/tsc --noEmit
	$(NODE) node_modules/eslint/bin/eslint.js .
	$(NODE) node_modules/prettier/bin/prettier.cjs --check --log-level warn .

fmt: node_modules/.package-lock.json ## format all sources
	$(NODE) node_modules/prettier/bin/prettier.cjs --write --log-level warn .

golden: node_modules/.package-lock.json ## capture test/golden/ from iproute2 again
	$(NODE) test/golden/make.ts

picture: $(EXECUTABLE) ## take docs/list.svg again, in the lab
	$(NODE) lab/picture.ts

trace: ## make places in the sources of a stack trace on stdin; MAP= of that release
	@$(NODE) build/trace.ts $(MAP)

clean: ## remove what was built
	rm -rf dist

node_modules/.package-lock.json: package-lock.json
	sh build/tools.sh
	npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

dist/native/system.node: src/kernel/native/system.c build/native.sh | node_modules/.package-lock.json
	sh build/native.sh

dist/sriov.js: $(SOURCES) build/bundle.ts package.json node_modules/.package-lock.json
	$(NODE) build/bundle.ts

# Symbols are 17 MB of it and no help to an operator.
dist/node: node_modules/.package-lock.json
	@mkdir -p dist
	strip -s -o $@ $(NODE)

dist/sriov.cdx.json: build/sbom.ts build/engine-sources.ts package.json package-lock.json node_modules/.package-lock.json
	$(NODE) build/sbom.ts

dist/sriov: dist/sriov.js dist/native/system.node dist/node build/pack.ts
	$(NODE) build/pack.ts

STATIC = $(SOURCES) $(ENGINE_SOURCES) package.json node_modules/.package-lock.json

dist/sriov-static: $(STATIC)
	$(NODE) build/static.ts

dist/sriov-static-%: $(STATIC)
	$(NODE) build/static.ts $*

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*## .*/\1/p' $(MAKEFILE_LIST))
