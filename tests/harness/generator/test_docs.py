"""The examples of docs/generators.md do what the page says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import splitvote.harness.generator as api

PAGE = Path(__file__).parents[3] / "docs" / "generators.md"
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_examples_run_and_print_what_the_page_shows():
    text = PAGE.read_text()
    blocks = [(text.count("\n", 0, found.start()) + 1, found[1]) for found in FENCE.finditer(text)]
    assert len(blocks) > 10
    names: dict[str, object] = {}
    failures: list[str] = []
    for line, block in blocks:
        test = doctest.DocTestParser().get_doctest(block, names, PAGE.name, str(PAGE), line)
        assert test.examples, f"nothing runs in the block at line {line}"
        test.globs = names
        runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
        runner.run(test, out=failures.append, clear_globs=False)
    assert not failures, "\n".join(failures)


def test_the_page_names_everything_in_the_api():
    text = PAGE.read_text()
    functions = [name for name in api.__all__ if name.islower() and callable(getattr(api, name))]
    missing = [name for name in functions if name not in {"is_log"} and f"{name}(" not in text]
    assert not missing
