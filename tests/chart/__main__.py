"""Writes what tests compare: the snapshot and ``k8s/rendered`` (``make rendered``)."""

from __future__ import annotations

import json

import yaml

from tests.chart.rendering import CHART, render
from tests.chart.test_objects import SNAPSHOT
from tests.chart.test_rendered import K8S, files, fixed
from tests.chart.test_values import SCHEMA, definitions, sections, table


def main() -> None:
    """Write the files anew."""
    schema = SCHEMA | {"$defs": definitions()}
    schema["properties"]["settings"] = sections()
    (CHART / "values.schema.json").write_text(json.dumps(schema, indent=2) + "\n")
    SNAPSHOT.write_text(yaml.safe_dump_all(render().objects))
    rendered = K8S / "rendered"
    for file in rendered.glob("*.yaml"):
        file.unlink()
    for name, text in files(fixed()).items():
        (rendered / name).write_text(text)
    readme = CHART / "README.md"
    head, begin, rest = readme.read_text().partition("<!-- begin values -->\n")
    _, end, tail = rest.partition("<!-- end values -->")
    readme.write_text(f"{head}{begin}{table()}\n{end}{tail}")


if __name__ == "__main__":
    main()
