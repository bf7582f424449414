"""The page on output: its table is the schema's, and its examples are events."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.report.test_jsonlines import SCHEMA, VALIDATOR, known

PAGE = (Path(__file__).parents[2] / "docs/output.md").read_text()


def test_page_lists_the_fields_and_events_of_the_schema() -> None:
    """Each field and each event of the schema has a row, and no other has."""
    rows = re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE)
    words = {"ready", "waiting", "failed"}
    events = set(SCHEMA["properties"]["event"]["enum"])
    assert set(rows) == known(SCHEMA) | events | words


def test_examples_are_valid_events() -> None:
    """The lines shown are valid by the schema, numbered from one."""
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    events = [json.loads(line) for line in block.splitlines()]
    for event in events:
        VALIDATOR.validate(event)
    assert [event["n"] for event in events] == [1, 2, 3, 4]
