# make demo | make test | make lint | make bench: each makes .venv first, on a machine with Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test test-docker lint fix bench lock wheels image rendered clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/python -m broker.demo $(if $(HOLD),--hold) $(if $(REPORT),--report $(REPORT))

# With COVERAGE=1, as .ci/run calls it, branches are counted too, which takes about a quarter longer.
test: $(STAMP)
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder -m 'not docker and not index' $(if $(COVERAGE),--cov --cov-report=term --cov-fail-under=90)

# The image for real, in a pod of containers. Without an engine it brings its own (Debian, as root); where none can be
# had it fails, or with WITHOUT_ENGINE=skip says so and goes on.
test-docker: $(STAMP) wheels
	$(BIN)/python -m tests.containers.engine $(if $(filter skip,$(WITHOUT_ENGINE)),--or-skip) \
		$(BIN)/python -m pytest -m "docker or index" tests/containers

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m tests.bench $(if $(REPORT),--report $(REPORT))
	$(BIN)/python -m tests.bench.guard

# What the image is made of, with hashes of every platform's files; after each change of dependencies.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --constraints constraints.txt

lock: $(STAMP)
	$(COMPILE) pyproject.toml --extra server --output-file requirements/server.txt
	$(COMPILE) pyproject.toml --extra server --extra kubernetes --output-file requirements/rotator.txt
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(COMPILE) - --output-file requirements/build.txt

# For builds that cannot reach an index. Another platform: make wheels WHEELS_FOR='--platform manylinux_2_28_aarch64'
wheels: wheels/.fetched

wheels/.fetched: requirements/build.txt requirements/rotator.txt | $(STAMP)
	rm -rf wheels
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: --python-version 3.11 \
		$(WHEELS_FOR) --dest wheels $(foreach lock,$^,--requirement $(lock))
	touch $@

IMAGE ?= mcp-secrets-broker:latest
TARGET ?= broker
image:
	docker build --target $(TARGET) --build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE) $(BUILD_OPTIONS) .

# What is made of other files and compared in tests: the chart's snapshot, README table and schema, k8s/rendered.
rendered: $(STAMP)
	$(BIN)/python -m tests.chart

clean:
	rm -rf $(VENV) build dist wheels .coverage* .pytest_cache .mypy_cache .ruff_cache
