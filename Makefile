# Each of these works on a bare machine with Python 3.12 or newer, as root or as a plain user.
.PHONY: run test browser faults bench screenshots lighthouse lint lock messages email-pictures
# Where it is set, each of the many processes would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

# Start the whole console; Ctrl-C stops it.
run:
	@bin/bootstrap && exec .venv/bin/python manage.py run_console

# Run the tests, the browser journeys included; `make test ARGS="-k seats"` runs some.
# Three processes for two cores: while journeys and faults wait for a browser or a worker, the others go on.
test:
	@bin/bootstrap dev && bin/get-chromium && .venv/bin/python -m pytest -n 3 $(ARGS)

# Only the browser journeys, in every language and theme.
browser:
	@bin/bootstrap dev && bin/get-chromium && JOURNEYS=all .venv/bin/python -m pytest tests/journeys $(ARGS)

# The long version of the faults: 220 processes killed, everything hung for longer. FAULTS_SEED=… repeats the random points of a run.
faults:
	@bin/bootstrap dev && FAULTS=long .venv/bin/python -m pytest tests/faults -s --durations=0 $(ARGS)

# Measure the console at a million users against what it could be measured by; docs/performance.md tells of it. An hour or more.
bench:
	@bin/bootstrap dev && .venv/bin/python -m benchmarks

# Show every email in docs/img/emails, with somebody of the console that runs here; ARGS="--language fr --dark --phone" for others.
email-pictures:
	@bin/bootstrap dev && bin/get-chromium && .venv/bin/python manage.py email_pictures $(ARGS)

# Take the pictures of docs/img anew, and agree to how the style guide looks now: look at both in the diff.
screenshots:
	@bin/bootstrap dev && bin/get-chromium && AGREE=1 REQUIRE_BROWSER=1 .venv/bin/python -m pytest -q tests/journeys/screenshots.py tests/journeys/test_styleguide.py $(ARGS)

# Lighthouse's scores of the main pages; it needs node and npm, which nothing else of the console does, and fetches itself into var/.
lighthouse:
	@bin/bootstrap dev && bin/get-chromium && REQUIRE_BROWSER=1 .venv/bin/python -m pytest -q -s tests/journeys/lighthouse.py

lint:
	@bin/bootstrap dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# Write the lock files anew from pyproject.toml; never edit them by hand. `make lock ARGS=--upgrade` takes newer packages.
LOCK = .venv/bin/uv pip compile --quiet --system-certs --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-annotate --no-header
lock:
	@bin/bootstrap dev
	$(LOCK) $(ARGS) pyproject.toml -o requirements.lock
	$(LOCK) $(ARGS) --group dev pyproject.toml -o requirements-dev.lock

# After a change of words: bring the catalogues of translations in step with the source, and compile them. ARGS=de: only that language.
messages:
	@bin/bootstrap dev && .venv/bin/python manage.py messages $(ARGS)
