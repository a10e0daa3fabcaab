"""The composition root: build, named tasks, reload, stop."""
