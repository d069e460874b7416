"""The map of metadata fields, and the setting for long names: valid values, and a line for each fault."""

import pytest

from syncd.service.build import build_limits
from tests.unit.config.harness import Place

HEAD = """
[cloudflare]
account_id = "0123456789abcdef0123456789abcdef"
api_token = "x"
"""
TARGETS = {
    "ai-search": 'type = "ai-search"\ninstance = "docs"',
    "kv": 'type = "kv"\nnamespace_title = "docs"',
    "vectorize": 'type = "vectorize"\nindex = "docs"',
}


def written(kind: str, *target: str, mirror: str = "") -> str:
    lines = "\n".join((TARGETS[kind], *target))
    return f'{HEAD}[mirrors.docs]\npath = "/srv/docs"\n{mirror}\n[mirrors.docs.target]\n{lines}\n'


def fields(count: int) -> str:
    return "metadata = {" + ", ".join(f'f{at} = "front:x"' for at in range(count)) + "}"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("ai-search", {"title": "title", "description": "description", "modified": "modified"}),
        ("kv", {}),
        ("vectorize", {"title": "title", "folder": "folder", "modified": "modified"}),
    ],
)
def test_each_target_has_its_default_fields(place: Place, kind: str, given: dict[str, str]) -> None:
    assert place.load(written(kind)).mirrors["docs"].target.metadata == given
    assert place.load(written(kind, "metadata = {}")).mirrors["docs"].target.metadata == {}


def test_a_map_is_a_table_too_and_may_come_from_the_environment(place: Place) -> None:
    text = written("kv") + '[mirrors.docs.target.metadata]\nsection = "front:Section"\n'
    assert place.load(text).mirrors["docs"].target.metadata == {"section": "front:Section"}
    environ = {"SYNCD_MIRRORS__DOCS__TARGET__METADATA__SECTION": "title"}
    assert place.load(written("kv"), environ).mirrors["docs"].target.metadata == {"section": "title"}


@pytest.mark.parametrize(("kind", "most"), [("ai-search", 3), ("kv", 8), ("vectorize", 9)])
def test_the_number_of_fields_is_bounded(place: Place, kind: str, most: int) -> None:
    for count in (most - 1, most):
        assert len(place.load(written(kind, fields(count))).mirrors["docs"].target.metadata) == count
    expected = f"mirrors.docs.target.metadata: should have at most {most} fields, not {most + 1}"
    assert expected in place.fault(written(kind, fields(most + 1)))


@pytest.mark.parametrize(
    ("kind", "field", "expected"),
    [
        (
            "ai-search",
            'folder = "folder"',
            "folder is set by the target itself, and searches can filter by it; leave it out",
        ),
        ("ai-search", 'timestamp = "modified"', "timestamp is set by the target itself"),
        ("ai-search", 'owner = "title"', "owner is used by syncd itself; choose another name"),
        ("ai-search", 'path = "title"', "path is used by syncd itself"),
        ("kv", 'size = "title"', "size is used by syncd itself"),
        ("vectorize", 'heading = "title"', "heading is used by syncd itself"),
        ("kv", 'Title = "title"', "Title: a field's name is 1-64 of a-z 0-9 _, beginning with a letter"),
        ("kv", '"a.b" = "title"', "a.b: a field's name"),
        ("kv", 'a = "front:"', 'a should be one of title, description, modified, folder, or "front:NAME"'),
        ("kv", 'a = "size"', "a should be one of title"),
        ("kv", "a = 1", "mirrors.docs.target.metadata.a: should be a text, in quotes"),
    ],
)
def test_an_invalid_field_is_named(place: Place, kind: str, field: str, expected: str) -> None:
    assert expected in place.fault(written(kind, f"metadata = {{ {field} }}"))


SHORTEN = 'long_names = "shorten"'


def test_long_names_have_limits_of_their_own(place: Place) -> None:
    def limits(kind: str) -> tuple[int, int | None, int | None]:
        found = build_limits(place.load(written(kind, mirror=SHORTEN + '\nowner = "docs"')).mirrors["docs"])
        return found.max_key_length, found.long_key_length, found.long_key_bytes

    assert limits("ai-search") == (128, 1024, None)
    assert limits("kv") == (128, 1024, 906)
    assert limits("vectorize") == (1024, None, None), "its ids hold no names"
    assert build_limits(place.load(written("kv")).mirrors["docs"]).long_key_length is None


@pytest.mark.parametrize(("length", "fault"), [(63, True), (64, False), (65, False)])
def test_a_short_name_must_be_readable(place: Place, length: int, fault: bool) -> None:
    text = written("ai-search", f"max_key_length = {length}", mirror=SHORTEN)
    if fault:
        assert "mirrors.docs.target.max_key_length: should be at least 64 with long_names" in place.fault(text)
    else:
        place.load(text)


@pytest.mark.parametrize(("length", "fault"), [(75, False), (76, False), (77, True)])
def test_a_prefix_must_stay(place: Place, length: int, fault: bool) -> None:
    text = written("ai-search", mirror=SHORTEN + '\nkey_prefix = "' + "p" * length + '"')
    if fault:
        assert "mirrors.docs.key_prefix: is too long for long_names" in place.fault(text)
    else:
        place.load(text)
