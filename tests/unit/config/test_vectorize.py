"""The [mirrors.NAME.target] section of Vectorize, and the one that `init` writes."""

import tomllib
from pathlib import Path

import pytest

from syncd.cli.main import run
from syncd.config.target_sections import VectorizeSection
from syncd.service.build import build_limits
from tests.unit.config.harness import ACCOUNT, Place, keys_of_example


def vectorize(*lines: str, index: str = 'index = "docs"') -> str:
    return "\n".join(
        [
            "[cloudflare]",
            f'account_id = "{ACCOUNT}"',
            "[mirrors.docs]",
            'path = "docs"',
            "[mirrors.docs.target]",
            'type = "vectorize"',
            index,
            *lines,
        ]
    )


def target_of(place: Place, *lines: str) -> VectorizeSection:
    target = place.load(vectorize(*lines)).mirrors["docs"].target
    assert isinstance(target, VectorizeSection)
    return target


def test_an_index_is_the_only_required_key(place: Place) -> None:
    target = target_of(place)
    assert (target.spec, target.model, target.create) == ("vectorize:docs", "@cf/baai/bge-base-en-v1.5", False)
    assert (target.chunk_size, target.chunk_overlap) == (1000, 150)


@pytest.mark.parametrize(
    ("model", "given", "sent"),
    [
        ("@cf/baai/bge-base-en-v1.5", None, "mean"),
        ("@cf/baai/bge-large-en-v1.5", None, "mean"),
        ("@cf/baai/bge-small-en-v1.5", "cls", "cls"),
        ("@cf/baai/bge-m3", None, None),
        ("@cf/google/embeddinggemma-300m", None, None),
        ("@cf/qwen/qwen3-embedding-0.6b", "mean", "mean"),
    ],
)
def test_the_pooling_is_fixed_where_a_model_has_one(
    place: Place, model: str, given: str | None, sent: str | None
) -> None:
    lines = [f'model = "{model}"', *([f'pooling = "{given}"'] if given else [])]
    assert target_of(place, *lines).fixed_pooling == sent


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("chunk_size = 99", "mirrors.docs.target.chunk_size: should be greater than or equal to 100"),
        ("chunk_size = 8001", "mirrors.docs.target.chunk_size: should be less than or equal to 8000"),
        ("chunk_overlap = -1", "mirrors.docs.target.chunk_overlap: should be greater"),
        ("chunk_overlap = 500", "chunk_overlap should be less than half of chunk_size"),
        ('pooling = "max"', "mirrors.docs.target.pooling: should be 'mean' or 'cls'"),
        ('model = "bge"', 'mirrors.docs.target.model: should be an embedding model of Workers AI, such as "@cf/baai'),
        ("max_file_size = 26214401", "mirrors.docs.target.max_file_size: should be less"),
        ("max_key_length = 513", "mirrors.docs.target.max_key_length: should be less"),
        ('namespace = "x"', "unknown key mirrors.docs.target.namespace"),
        ("chunksize = 300", "did you mean chunk_size?"),
    ],
)
def test_a_mistake_is_named(place: Place, line: str, expected: str) -> None:
    assert expected in place.fault(vectorize(line))


@pytest.mark.parametrize("line", ["chunk_size = 100\nchunk_overlap = 49", "chunk_size = 8000", "chunk_overlap = 499"])
def test_the_limits_themselves_are_taken(place: Place, line: str) -> None:
    assert target_of(place, line).spec == "vectorize:docs"


@pytest.mark.parametrize("index", ["", 'index = ""', 'index = "my docs"', f'index = "{"x" * 65}"'])
def test_a_bad_index_is_named(place: Place, index: str) -> None:
    assert "mirrors.docs.target.index" in place.fault(vectorize(index=index))


def test_the_limits_of_the_target_take_text_only(place: Place) -> None:
    limits = build_limits(place.load(vectorize("max_file_size = 100")).mirrors["docs"])
    kinds = {key: problem.kind for key in ("a.md", "a.png", "a") if (problem := limits.refuse(key, 5))}
    assert kinds == {"a.png": "unsupported_type", "a": "unsupported_type"}
    assert limits.refuse("a.md", 100) is None
    refused = [problem.kind for size in (0, 101) if (problem := limits.refuse("a.md", size))]
    assert refused == ["empty", "too_large"]


def test_init_writes_a_section_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path)
    (tmp_path / "docs").mkdir()
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
    assert run(["-c", str(place.file), "init", str(tmp_path / "docs"), "--target", "vectorize:docs"]) == 0
    assert "Account / Vectorize: Edit and Account / Workers AI: Read" in capsys.readouterr().out
    text = place.file.read_text(encoding="utf-8")
    assert tomllib.loads(text)["mirrors"]["docs"]["target"]["index"] == "docs"
    assert place.load(text).mirrors["docs"].target.spec == "vectorize:docs"


def test_the_section_in_the_example_is_one_that_loads_and_names_every_key(place: Place) -> None:
    keys = [line for line in keys_of_example("mirrors.vectors.target") if not line.startswith(("type", "index"))]
    assert target_of(place, *keys).model_fields_set == set(VectorizeSection.model_fields)
