"""The EDN reader and printer: grammar, both readings, faults with their lines, a second reader to compare with."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitvote.harness.formats import edn
from splitvote.harness.formats.edn import EXACT, EdnError, Keyword, Symbol, Tagged, read_form, read_forms
from splitvote.harness.formats.edn_text import edn_text
from tests.harness.formats import edn_reference


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the text at every line end, so that whatever spans lines spans chunks."""
    monkeypatch.setattr(edn, "_CHUNK_CHARS", 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nil", None),
        ("true", True),
        ("[]", []),
        ("[ , ]", []),
        ("()", ()),
        ("{}", {}),
        ("#{}", frozenset()),
        (":read", Keyword("read")),
        (":a.b/c-d?", Keyword("a.b/c-d?")),
        ("foo#", Symbol("foo#")),
        ("[a#b :c##d 1]", [Symbol("a#b"), Keyword("c##d"), 1]),
        ("/", Symbol("/")),
        ("-", Symbol("-")),
        ("+5", 5),
        ("-0", 0),
        ("12345678901234567890123N", 12345678901234567890123),
        ("0x1F", 31),
        ("1/3", Fraction(1, 3)),
        ("1.50M", Decimal("1.50")),
        ("-1.5e3", -1500.0),
        ("##-Inf", -math.inf),
        (r"\a", "a"),
        (r"\newline", "\n"),
        (r"\u00e9", "é"),
        (r"[\( \) \\ \, \;]", ["(", ")", "\\", ",", ";"]),
        (r'"a\"b\\\n\u0041\101"', 'a"b\\\nAA'),
        ('"; no comment, [no vector"', "; no comment, [no vector"),
        ("[1 ; a comment ]\n 2]", [1, 2]),
        ("[1 #_ 2 3]", [1, 3]),
        ("[1 #_#_ 2 3 4]", [1, 4]),
        ("[#_[1 2]]", []),
        ("[#_ #tag {:a 1} 5]", [5]),
        ('#inst "2024-01-01"', Tagged("inst", "2024-01-01")),
        ("#a #b 1", Tagged("a", Tagged("b", 1))),
        ("#jepsen.history.Op{:index 0}", Tagged("jepsen.history.Op", {Keyword("index"): 0})),
        ("#:a{:b 1, :c/d 2, 3 4}", {Keyword("a/b"): 1, Keyword("c/d"): 2, 3: 4}),
        ("^{:line 3} [1]", [1]),
        ("{[1 2] :a, {:b 1} 2}", {(1, 2): Keyword("a"), frozenset({(Keyword("b"), 1)}): 2}),
        ("#{[1] #{2}}", frozenset({(1,), frozenset({2})})),
        ("[1,2,,3]", [1, 2, 3]),
        ("[:a[1]{:b 2}]", [Keyword("a"), [1], {Keyword("b"): 2}]),
    ],
)
def test_reads(text: str, value: Any) -> None:
    read = read_form(text, EXACT)
    assert read == value
    assert type(read) is type(value)


def test_plain_reading_is_plain_python() -> None:
    """Keywords are strings, sets lists in printed order, tags vanish; nil and [] stay apart."""
    read = read_form('{:a [:b sym nil []], :s #{3 1 2}, :l (1 2), :t #inst "x", 0 \\c}')
    assert read == {"a": ["b", "sym", None, []], "s": [3, 1, 2], "l": [1, 2], "t": "x", 0: "c"}
    assert type(read["a"][0]) is str
    assert all(type(key) in (str, int) for key in read)


def test_values_are_not_shared() -> None:
    """Equal vectors are cached as text, but every reader gets one of its own."""
    first, second = read_forms("[1 2] [1 2]")
    first.append(3)
    assert second == [1, 2]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[1\n2", 1, "ends inside the '['"),
        ("{:a 1}\n{:b [1 2}\n", 2, "'}' where ']' should close '['"),
        ("1\n\n]", 3, "']' closes nothing"),
        ("{:a\n:b\n:c}", 3, "a key without a value"),
        ("{:a 1\n :a 2}", 2, "the same key twice"),
        ('1\n"abc', 2, "never ends"),
        ('"a\\qb"', 1, "unknown escape \\q"),
        ("[\\abc]", 1, "unknown character"),
        ("[1\n2\n03]", 3, "'03' begins like a number"),
        ("12abc", 1, "begins like a number"),
        ("1/0", 1, "divides by zero"),
        ("[1\n:]", 2, "no keyword"),
        ('#"a+"', 1, "regular expression"),
        ("[1 #_]", 1, "nothing follows '#_'"),
        ("1\n#tag", 2, "nothing follows '#tag'"),
        ("[^{:a 1}]", 1, "metadata"),
        ("##Info", 1, "symbolic value"),
        ("[1 2]\n[3 \\", 2, "unknown character"),
    ],
)
def test_faults_name_the_line(text: str, line: int, words: str) -> None:
    with pytest.raises(EdnError) as caught:
        list(read_forms(text))
    assert caught.value.line == line
    assert words in str(caught.value)


def test_read_form_wants_exactly_one() -> None:
    with pytest.raises(EdnError, match="found 2"):
        read_form("1 2")


@pytest.mark.usefixtures("small_chunks")
def test_forms_and_faults_across_chunks() -> None:
    text = '{:a "one\n; two\n\\" three"}\n[1\n#_\n2\n3]\n#tag\n4 ; end'
    assert list(read_forms(text, EXACT)) == [{Keyword("a"): 'one\n; two\n" three'}, [1, 3], Tagged("tag", 4)]
    with pytest.raises(EdnError) as caught:
        list(read_forms(text + "\n\n09"))
    assert caught.value.line == 11


def test_records_are_replaced_at_the_top_only() -> None:
    """The callback gets the maps of a history, wherever they stand, but not the maps inside them nor commented ones."""
    seen: list[Any] = []

    def record(found: dict[Any, Any]) -> str:
        seen.append(found)
        return f"record {len(seen)}"

    assert list(read_forms("[{:v {:x 1}} #_{:n 1} #t {:w 2}]", record=record)) == [["record 1", "record 2"]]
    assert list(read_forms("{:a 1} {:b [{:c 2}]}", record=record)) == ["record 3", "record 4"]
    assert seen == [{"v": {"x": 1}}, {"w": 2}, {"a": 1}, {"b": [{"c": 2}]}]


names = (
    st.text("abcxyz-?!*", min_size=1, max_size=6)
    .filter(lambda name: name[0] in "abcxyz")
    .filter(lambda name: name not in ("nil", "true", "false"))
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.fractions().filter(lambda fraction: fraction.denominator != 1)
    | st.decimals(allow_nan=False, allow_infinity=False).map(lambda number: Decimal(f"{number:f}"))
    | texts
    | names.map(Keyword)
    | names.map(Symbol)
)


def _apart(items: list[Any]) -> list[Any]:
    """Drop items that are equal in Python though they differ in EDN (1 and true, "a" and :a)."""
    found: dict[Any, Any] = {}
    for item in items:
        found.setdefault(edn.hashable(item), item)
    return list(found.values())


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, max_size=4)
    return (
        several
        | several.map(tuple)
        | several.map(lambda items: frozenset(map(edn.hashable, _apart(items))))
        | st.tuples(several, several).map(
            lambda pair: dict(zip(map(edn.hashable, _apart(pair[0])), pair[1], strict=False))
        )
        | st.tuples(names, inner).map(lambda pair: Tagged(*pair))
    )


values = st.recursive(atoms, _containers, max_leaves=12)


def _typed(value: Any) -> Any:
    """The value with its types spelt out, so that 1, true and 1.0 differ, and "a" from :a."""
    if isinstance(value, dict):
        return ("map", sorted((repr(_typed(key)), repr(_typed(item))) for key, item in value.items()))
    if isinstance(value, (set, frozenset)):
        return ("set", sorted(repr(_typed(item)) for item in value))
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [_typed(item) for item in value])
    if isinstance(value, Tagged):
        return ("tagged", value.tag, _typed(value.value))
    return (type(value).__name__, str(value) if not isinstance(value, str) else value + "")


def _has_map_in_key(value: Any) -> bool:
    if isinstance(value, dict):
        return any(isinstance(key, (tuple, frozenset)) for key in value) or any(map(_has_map_in_key, value.values()))
    if isinstance(value, (set, frozenset)):
        return any(isinstance(item, (tuple, frozenset, Tagged)) for item in value)
    if isinstance(value, Tagged):
        return _has_map_in_key(value.value)
    return isinstance(value, (list, tuple)) and any(map(_has_map_in_key, value))


@given(values.filter(lambda value: not _has_map_in_key(value)))
@settings(max_examples=400, deadline=None)
def test_what_is_printed_reads_back(value: Any) -> None:
    assert _typed(read_form(edn_text(value), EXACT)) == _typed(value)


def _blanks() -> st.SearchStrategy[str]:
    return st.sampled_from([" ", "\n", ", ", " ; note ] \n", "\t", " #_ :gone ", " #_[1 {:x 2}] "])


characters = st.sampled_from([r"\a", r"\space", r"\u0041"])


@st.composite
def written(draw: st.DrawFn, depth: int = 3) -> str:
    """EDN text with blanks, comments, discards, tags and metadata in it."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return edn_text(draw(atoms)) if draw(st.integers(0, 5)) else draw(characters)
    opener, closer = draw(st.sampled_from([("[", "]"), ("(", ")"), ("#tag [", "]"), ("^:meta [", "]"), ("#{", "}")]))
    parts = [draw(written(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    return opener + "".join(draw(_blanks()) + part for part in parts) + draw(_blanks()) + closer


joined = st.tuples(st.sampled_from([" ", "\n"]), st.lists(written(), max_size=3)).map(
    lambda pair: pair[0].join(pair[1])
)


@given(joined)
@settings(max_examples=400, deadline=None)
def test_agrees_with_a_reader_that_shares_nothing(text: str) -> None:
    ours = list(read_forms(text, EXACT))
    theirs = edn_reference.read_all(text)
    assert _typed(ours) == _typed(theirs)


@given(st.lists(written(), max_size=3).map("\n".join))
@settings(max_examples=150, deadline=None)
def test_chunks_make_no_difference(text: str) -> None:
    whole = list(read_forms(text, EXACT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edn, "_CHUNK_CHARS", 0)
        cut = list(read_forms(text, EXACT))
    assert _typed(cut) == _typed(whole)


@given(st.text('[](){}#_:^"\\ab1/.\n ;,', max_size=14))
@settings(max_examples=600, deadline=None)
def test_garbage_is_read_or_refused_never_a_crash(text: str) -> None:
    refused_at = None
    try:
        list(read_forms(text, EXACT))
    except EdnError as refused:
        refused_at = refused.line
    assert refused_at is None or 1 <= refused_at <= text.count("\n") + 1


def _from_edn_format(value: Any) -> Any:
    """What the package edn_format made of a text, in our types."""
    import edn_format

    if isinstance(value, edn_format.Keyword):
        return Keyword(value.name)
    if isinstance(value, edn_format.Symbol):
        return Symbol(value.name)
    if isinstance(value, edn_format.ImmutableDict):
        return {edn.hashable(_from_edn_format(key)): _from_edn_format(item) for key, item in value.items()}
    if isinstance(value, edn_format.ImmutableList):
        return [_from_edn_format(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_from_edn_format(item) for item in value)
    if isinstance(value, frozenset):
        return frozenset(edn.hashable(_from_edn_format(item)) for item in value)
    return value


_published: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text('abc \n"\\', max_size=6)
    | names.map(Keyword)
    | names.map(Symbol),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(names.map(Keyword), inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def edn_format() -> Any:
    """The package edn_format, where it is installed."""
    return pytest.importorskip("edn_format", reason="edn_format (extra dev) is not installed")


@given(value=_published)
@settings(max_examples=200, deadline=None)
def test_agrees_with_edn_format(edn_format: Any, value: Any) -> None:
    text = edn_text(value)
    assert _typed(_from_edn_format(edn_format.loads(text))) == _typed(read_form(text, EXACT))
