"""The shard of a process: from the config, or from the environment, where many processes share one description."""

import pytest

from syncd.core.names import WHOLE, Shard
from syncd.service.build import Grants, build_settings
from tests.unit.config.harness import MINIMAL, Place


@pytest.mark.parametrize("variable", ["SYNCD_DEFAULTS__SHARD", "SYNCD_MIRRORS__DOCS__SHARD"])
def test_the_shard_comes_from_the_environment(place: Place, variable: str) -> None:
    section = place.load(environ={variable: "2/4"}).mirrors["docs"]
    assert build_settings(section, Grants()).policy.shard == Shard(2, 4)


def test_without_a_shard_a_process_has_all_keys(place: Place) -> None:
    assert build_settings(place.load().mirrors["docs"], Grants()).policy.shard == WHOLE


def test_an_empty_variable_takes_the_file_s_shard_back(place: Place) -> None:
    text = place.with_key("mirrors.docs.shard", '"1/4"')
    assert place.load(text).mirrors["docs"].shard == "1/4"
    assert place.load(text, {"SYNCD_MIRRORS__DOCS__SHARD": ""}).mirrors["docs"].shard == ""


@pytest.mark.parametrize("text", ["$(POD_INDEX)/4", "/4", "4/4"])
def test_an_index_that_kubernetes_did_not_fill_in_is_refused(place: Place, text: str) -> None:
    """A variable that is defined later stays as it is written; a label that is not there is empty."""
    fault = place.fault(MINIMAL, {"SYNCD_DEFAULTS__SHARD": text})
    assert 'defaults.shard: should be "i/n" with 0 <= i < n' in fault
