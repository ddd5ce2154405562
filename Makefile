# One list of tasks. `make help` prints them.
PYTHON ?= python3
VENV := .venv
VENV_CUDA := .venv-cuda
TORCH := torch==2.13.0
TORCH_CUDA := torch==2.14.1 torchvision==0.29.1
RAY := ray[client]==2.60.0
TIMM := timm==1.0.31
CATCH2 := comma-deps-catch2==2.13.10.post96
CATCH2_DIR := build/catch2
MAX_JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# The build folder's name carries the torch and Python versions (see setup.py).
BUILD = $(firstword $(wildcard build/torch-2.13.0-cp*))
# worksteal: what a module shares is made by one worker, and no worker waits for a long test of the other.
PYTEST_FLAGS ?= -n $(MAX_JOBS) --dist worksteal
# Test workers share the cores: one thread each, and a second for the tests that are about threads.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

FUZZ_RUNS ?= 1000000
# The readers are C++20 with ranges, which Clang before 16 does not compile with GCC's library.
export CIMQ_FUZZ_CXX ?= $(shell command -v clang++-19 || echo clang++)
SOAK_MINUTES ?= 20
SOAK_JOBS ?= 2
QEMU := qemu-aarch64 -L /usr/aarch64-linux-gnu

CSRC := $(shell find csrc tests/csrc -type f 2>/dev/null) CMakeLists.txt setup.py pyproject.toml
PACKAGE := $(shell find cimq -type f \( -name '*.py' -o -name '*.pyi' -o -path '*/templates/*' \) 2>/dev/null)

.DELETE_ON_ERROR:
.PHONY: help demo test test-cpp test-python test-asan test-asan-ops test-neon test-cuda test-ray test-sdist soak fuzz fuzz-readers fuzz-onnx cuda-kernels lint format bench clean

help:
	@echo "make demo       set up .venv, run the whole chain on embedded data, results under runs/demo/"
	@echo "make test       set up .venv, run every C++ and Python test"
	@echo "make test-cuda  set up .venv-cuda (CUDA torch, torchvision, timm), build with nvcc where found, run the Python tests (CUDA_INSTALL=sdist: of the source distribution)"
	@echo "make test-ray   add Ray to .venv (80 MB to fetch, 250 MB on disk), run the tests of searches on a cluster"
	@echo "make test-sdist source distribution -> wheel -> import in a fresh environment"
	@echo "make test-asan  run the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make test-asan-ops  build the operators with AddressSanitizer and UndefinedBehaviorSanitizer, run their tests"
	@echo "make test-neon  cross-compile for 64-bit ARM, run the C++ tests under qemu"
	@echo "make fuzz       coverage-guided comparison of all kernels with the reference (FUZZ_RUNS=$(FUZZ_RUNS))"
	@echo "make fuzz-readers  changed bundles and programs against their readers (FUZZ_RUNS=$(FUZZ_RUNS) each)"
	@echo "make fuzz-onnx  add atheris to .venv; changed ONNX models against their reader (FUZZ_RUNS=$(FUZZ_RUNS))"
	@echo "make cuda-kernels  nvcc builds the CUDA kernels for every architecture; registers, spills, occupancy (no GPU)"
	@echo "make soak       random cases with fresh seeds on every instruction set (SOAK_MINUTES=$(SOAK_MINUTES))"
	@echo "make lint       ruff, mypy, circles of imports, clang-format, clang-tidy"
	@echo "make format     rewrite sources with ruff and clang-format"
	@echo "make clean      remove build products and virtual environments"

# ---- set-up ----
$(VENV)/.deps: requirements.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit("cimq needs Python >= 3.10, this is " + sys.version.split()[0]) if sys.version_info < (3, 10) else None'
	@echo "== cimq: creating $(VENV) and installing $(TORCH) and the pinned packages"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# The Catch2 package declares a newer Python than ours may be, but it is headers only: unpack the wheel.
$(CATCH2_DIR)/.done: $(VENV)/.deps
	@echo "== cimq: fetching Catch2"
	@mkdir -p $(CATCH2_DIR)
	$(VENV)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
	  --python-version 3.12 -d $(CATCH2_DIR) $(CATCH2)
	$(VENV)/bin/python -m zipfile -e $(CATCH2_DIR)/*.whl $(CATCH2_DIR)
	@touch $@

# One build serves demo and tests; the C++ tests are added the first time they are asked for.
$(VENV)/.built: $(VENV)/.deps $(CSRC)
	@echo "== cimq: building the extension against $(TORCH)"
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" MAX_JOBS=$(MAX_JOBS) \
	  $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.built-tests: $(VENV)/.built $(CATCH2_DIR)/.done
	@echo "== cimq: building the C++ tests"
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake -S . -B $(BUILD) -DCIMQ_TESTS=ON \
	  -DCIMQ_CATCH2_INCLUDE=$(CURDIR)/$(CATCH2_DIR)/catch2/install/include >/dev/null
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --build $(BUILD) --parallel $(MAX_JOBS)
	@touch $@

# The device that Python tests emulate, of what .built-tests builds the part that they need.
DEVICE = $(CURDIR)/$(BUILD)/tests/csrc/cimq_emulated_device.so
$(VENV)/.built-device: $(VENV)/.built $(CATCH2_DIR)/.done
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake -S . -B $(BUILD) -DCIMQ_TESTS=ON \
	  -DCIMQ_CATCH2_INCLUDE=$(CURDIR)/$(CATCH2_DIR)/catch2/install/include >/dev/null
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --build $(BUILD) --parallel $(MAX_JOBS) --target cimq_emulated_device
	@touch $@

# ---- the two commands ----
demo: $(VENV)/.built
	@echo "== cimq: running the demonstration"
	$(VENV)/bin/python examples/digits.py --out runs/demo
	@echo "== cimq: look at runs/demo/report.html; the deployment bundle is runs/demo/model.cimq"

test: test-cpp test-python
	@echo "== cimq: all C++ and Python tests passed; C++ log: $(BUILD)/Testing/Temporary/LastTest.log"

test-cpp: $(VENV)/.built-tests
	@echo "== cimq: C++ tests"
	$(VENV)/bin/ctest --test-dir $(BUILD) --parallel $(MAX_JOBS) --output-on-failure

test-python: $(VENV)/.built-device
	@echo "== cimq: Python tests"
	$(TEST_ENV) CIMQ_EMULATED_DEVICE=$(DEVICE) $(VENV)/bin/pytest $(PYTEST_FLAGS)

# ---- the other lanes ----
test-sdist: $(VENV)/.deps
	MAX_JOBS=$(MAX_JOBS) $(VENV)/bin/python tests/packaging/source_distribution.py

$(VENV)/.ray: $(VENV)/.deps
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$(RAY)"
	@touch $@

test-ray: $(VENV)/.built $(VENV)/.ray
	@echo "== cimq: tests of searches on a Ray cluster"
	$(TEST_ENV) $(VENV)/bin/pytest -p no:xdist tests/policy_search/test_ray_workers.py

$(VENV_CUDA)/.deps: requirements.txt Makefile
	@echo "== cimq: creating $(VENV_CUDA) and installing $(TORCH_CUDA) and the pinned packages (several GB)"
	$(PYTHON) -m venv $(VENV_CUDA)
	$(VENV_CUDA)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH_CUDA)
	$(VENV_CUDA)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt $(TIMM)
	@touch $@

# Not an editable install: the products in cimq/ belong to the other lane's torch. CUDA_INSTALL=sdist tests the wheel of
# the source distribution, all of it built anew, and is then test-sdist as well.
CUDA_INSTALL ?= checkout
$(VENV_CUDA)/.built: $(VENV_CUDA)/.deps $(CSRC) $(PACKAGE)
	@echo "== cimq: building the extension against $(TORCH_CUDA)"
ifeq ($(CUDA_INSTALL),sdist)
	MAX_JOBS=$(MAX_JOBS) $(VENV_CUDA)/bin/python tests/packaging/source_distribution.py --install
else
	rm -rf build/lib*
	PATH="$(CURDIR)/$(VENV_CUDA)/bin:$$PATH" MAX_JOBS=$(MAX_JOBS) \
	  $(VENV_CUDA)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps .
endif
	@touch $@

# What another torch cannot change is left to the other lane.
FOR_ONE_TORCH := tests/benchmarks tests/cli tests/onnx_import tests/packaging tests/report \
  tests/bundle/test_hostile.py tests/bundle/test_run_command.py tests/test_energy.py tests/test_hardware.py \
  tests/test_hardware_files.py tests/test_machine_parts.py tests/test_printable.py tests/test_structured_files.py \
  $(filter-out %/test_any_bits.py %/test_search.py %/test_workers.py,$(wildcard tests/policy_search/test_*.py))
test-cuda: $(VENV_CUDA)/.built
	@echo "== cimq: Python tests with the CUDA build of torch"
	$(TEST_ENV) $(VENV_CUDA)/bin/pytest $(PYTEST_FLAGS) $(addprefix --ignore=,$(FOR_ONE_TORCH))
	@echo "== cimq: the Python tests passed with $(TORCH_CUDA)"

test-asan: $(CATCH2_DIR)/.done
	@echo "== cimq: C++ tests under ASan and UBSan"
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --preset asan >/dev/null
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --build --preset asan --parallel $(MAX_JOBS)
	$(VENV)/bin/ctest --test-dir build/asan --parallel $(MAX_JOBS) --output-on-failure

# The extension itself under sanitizers, in a copy of the package; python is not, so their runtime is loaded before it
# (and libstdc++, whose exceptions it wants to see). Left out are tests that start processes or measure time.
ASAN_OPS := build/asan-ops
ASAN_OPS_TESTS := tests/ops
ASAN_OPS_SKIP := every_instruction_set or reduced_precision_of_onednn or named_once or ten_thousandth or compil
test-asan-ops: $(VENV)/.deps
	@echo "== cimq: tests of the operators under ASan and UBSan"
	@mkdir -p $(ASAN_OPS)/package
	rm -rf $(ASAN_OPS)/package/cimq/*/
	cp -R cimq $(ASAN_OPS)/package
	rm -f $(ASAN_OPS)/package/cimq/_C.*.so
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --preset asan-ops >/dev/null
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --build --preset asan-ops --parallel $(MAX_JOBS)
	cp $(ASAN_OPS)/csrc/_C.*.so $(ASAN_OPS)/_build_record.json $(ASAN_OPS)/package/cimq
	$(TEST_ENV) PYTHONPATH=$(CURDIR)/$(ASAN_OPS)/package PYTHONMALLOC=malloc \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 CI=1 CIMQ_EMULATED_DEVICE=off \
	  $(VENV)/bin/pytest $(PYTEST_FLAGS) -p no:cacheprovider -k "not ($(ASAN_OPS_SKIP))" $(ASAN_OPS_TESTS)

# The kernels' warnings are judged by the native build; gcc 12 for ARM has false alarms of its own.
test-neon: $(CATCH2_DIR)/.done
	@command -v aarch64-linux-gnu-g++ >/dev/null || { echo "make test-neon needs aarch64-linux-gnu-g++ (Debian: g++-aarch64-linux-gnu)"; exit 1; }
	@command -v qemu-aarch64 >/dev/null || { echo "make test-neon needs qemu-aarch64 (Debian: qemu-user)"; exit 1; }
	@echo "== cimq: C++ tests for 64-bit ARM"
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --preset neon >/dev/null
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --build --preset neon --parallel $(MAX_JOBS) --target cimq_tests
	@echo "== cimq: a processor with the dot-product extension"
	$(QEMU) -cpu max build/neon/tests/csrc/cimq_tests
	@echo "== cimq: a processor without it"
	$(QEMU) -cpu cortex-a57 build/neon/tests/csrc/cimq_tests "[mvm],[conv],[fuzz]"

fuzz: $(CATCH2_DIR)/.done
	@command -v $(CIMQ_FUZZ_CXX) >/dev/null || { echo "make fuzz needs clang++ with libFuzzer (Debian: clang-19 libclang-rt-19-dev)"; exit 1; }
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --preset fuzz >/dev/null
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --build --preset fuzz --parallel $(MAX_JOBS) --target fuzz_kernels
	@mkdir -p build/fuzz/corpus
	build/fuzz/tests/csrc/fuzz/fuzz_kernels -runs=$(FUZZ_RUNS) -max_len=256 -entropic=0 -print_final_stats=1 build/fuzz/corpus

# Begins with exported bundles; what is found interesting is kept in build/fuzz/bundle and build/fuzz/program.
fuzz-readers: $(VENV)/.built $(CATCH2_DIR)/.done
	@command -v $(CIMQ_FUZZ_CXX) >/dev/null || { echo "make fuzz-readers needs clang++ with libFuzzer (Debian: clang-19 libclang-rt-19-dev)"; exit 1; }
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --preset fuzz >/dev/null
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --build --preset fuzz --parallel $(MAX_JOBS) --target fuzz_bundle fuzz_program
	$(VENV)/bin/python tests/csrc/fuzz/corpus.py build/fuzz/seeds
	@for reader in bundle program; do \
	  mkdir -p build/fuzz/$$reader && ASAN_OPTIONS=malloc_context_size=2 build/fuzz/tests/csrc/fuzz/fuzz_$$reader \
	    -runs=$(FUZZ_RUNS) -max_len=65536 -timeout=20 -entropic=0 -print_final_stats=1 build/fuzz/$$reader build/fuzz/seeds || exit 1; \
	done

$(VENV)/.atheris: $(VENV)/.deps
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0
	@touch $@

fuzz-onnx: $(VENV)/.built $(VENV)/.atheris
	$(TEST_ENV) $(VENV)/bin/python tests/onnx_import/fuzz_onnx.py build/fuzz-onnx -runs=$(FUZZ_RUNS) -print_final_stats=1

# What nvcc makes of the CUDA kernels; neither a GPU nor a CUDA build of torch is needed. cuobjdump and nvdisasm, which
# count instructions, are packages of their own.
CUDA_KERNELS := build/cuda-kernels
CUOBJDUMP := nvidia-cuda-cuobjdump==13.5.37 nvidia-cuda-nvdisasm==13.5.37
$(VENV)/.cuobjdump: $(VENV)/.deps
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(CUOBJDUMP)
	@touch $@

cuda-kernels: $(VENV)/.cuobjdump
	@command -v nvcc >/dev/null || { echo "make cuda-kernels needs nvcc (CUDA toolkit 13)"; exit 1; }
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --preset cuda-kernels >/dev/null
	@echo "== cimq: building the CUDA kernels"
	@rm -rf $(CUDA_KERNELS)/csrc/CMakeFiles/cimq_kernels_cuda.dir/kernels  # nvcc prints only of what it compiles
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cmake --build --preset cuda-kernels --parallel $(MAX_JOBS) \
	  > $(CUDA_KERNELS)/nvcc.log 2>&1 || { cat $(CUDA_KERNELS)/nvcc.log; exit 1; }
	$(VENV)/bin/python benchmarks/ops/cuda_static.py $(CUDA_KERNELS)/nvcc.log --objects $(CUDA_KERNELS)/csrc/CMakeFiles/cimq_kernels_cuda.dir

# What it finds becomes a fixed example. Run before a change lands, beside CI.
soak: $(VENV)/.built-tests
	$(VENV)/bin/python tests/soak.py --minutes $(SOAK_MINUTES) --jobs $(SOAK_JOBS) --binary $(BUILD)/tests/csrc/cimq_tests

lint: $(VENV)/.built-tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python .ci/check_imports.py
	find csrc tests/csrc benchmarks -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' | xargs $(VENV)/bin/clang-format --dry-run -Werror
	@mkdir -p build/lint  # each source by itself: without what was precompiled for it, which another compiler could not read
	sed -E 's/ -Winvalid-pch -include [^ ]*cmake_pch\.hxx//' $(BUILD)/compile_commands.json > build/lint/compile_commands.json
	find csrc -name '*.cpp' ! -path '*/cuda/*' | xargs -P $(MAX_JOBS) -n 4 $(VENV)/bin/clang-tidy -p build/lint --quiet --warnings-as-errors='*'
	@echo "== cimq: lint is clean"

format:
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	find csrc tests/csrc benchmarks -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' | xargs $(VENV)/bin/clang-format -i

clean:
	rm -rf build $(VENV) $(VENV_CUDA) cimq/_C.*.so cimq/_build_record.json cimq/bin *.egg-info
