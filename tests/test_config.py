"""Where a setting comes from: the first layer that has it wins, and a missing one says where it was looked for."""

import os
from collections.abc import Iterator, MutableMapping

import pytest

from managed_agents_actors._config import NOT_GIVEN, configure, given, reset_configuration, setting
from managed_agents_actors._errors import ConfigurationError


@pytest.fixture(autouse=True)
def environment() -> Iterator[MutableMapping[str, str]]:
    """The process environment without our variables, put back afterwards."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "AWS_")):
            del os.environ[name]
    yield os.environ
    os.environ.clear()
    os.environ.update(before)
    reset_configuration()


def test_option_then_configure_then_environment_then_default(environment: MutableMapping[str, str]) -> None:
    assert setting("base_url") == "https://api.anthropic.com"
    environment["ANTHROPIC_BASE_URL"] = "https://env.example"
    assert setting("base_url") == "https://env.example"
    configure(base_url="https://configured.example")
    assert setting("base_url") == "https://configured.example"
    assert setting("base_url", "https://option.example") == "https://option.example"


@pytest.mark.parametrize("falsy", [None, "", False, 0])
def test_a_layer_wins_by_having_a_value_not_by_its_truth(falsy: object) -> None:
    configure(files_beta="files-api-2025-04-14")
    assert setting("files_beta", falsy) is falsy
    configure(files_beta=falsy)
    assert setting("files_beta") is falsy


def test_an_empty_environment_variable_is_not_set(environment: MutableMapping[str, str]) -> None:
    environment["ANTHROPIC_BASE_URL"] = ""
    assert setting("base_url") == "https://api.anthropic.com"


def test_of_several_environment_variables_the_first_that_is_set_counts(
    environment: MutableMapping[str, str],
) -> None:
    environment["AWS_DEFAULT_REGION"] = "eu-west-1"
    assert setting("region") == "eu-west-1"
    environment["AWS_REGION"] = ""
    assert setting("region") == "eu-west-1"
    environment["AWS_REGION"] = "us-west-2"
    assert setting("region") == "us-west-2"


def test_each_aws_service_has_an_endpoint_of_its_own_before_the_common_one(
    environment: MutableMapping[str, str],
) -> None:
    names = ("agent_core_endpoint_url", "agent_core_control_endpoint_url")
    assert [setting(name) for name in names] == [None, None]
    environment["AWS_ENDPOINT_URL"] = "http://all"
    environment["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"] = "http://data"
    assert [setting(name) for name in names] == ["http://data", "http://all"]
    environment["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL"] = "http://control"
    assert [setting(name) for name in names] == ["http://data", "http://control"]


def test_a_missing_setting_names_every_place() -> None:
    with pytest.raises(ConfigurationError) as caught:
        setting("api_key")
    for place in ("api_key=", "configure(api_key=...)", "ANTHROPIC_API_KEY"):
        assert place in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        setting("region")
    for place in ("region=", "configure(region=...)", "AWS_REGION", "AWS_DEFAULT_REGION"):
        assert place in str(caught.value)


def test_the_defaults() -> None:
    names = ("anthropic_version", "beta", "files_beta", "auth_scheme")
    assert [setting(name) for name in names] == ["2023-06-01", "managed-agents-2026-04-01", None, "x-api-key"]


@pytest.mark.parametrize("change", [lambda: configure(beta="b", apikey="k"), lambda: reset_configuration("apikey")])
def test_an_unknown_name_is_refused_and_changes_nothing(change: object) -> None:
    configure(base_url="https://configured.example")
    with pytest.raises(ConfigurationError, match="apikey"):
        change()  # type: ignore[operator]  # parametrized as object
    assert setting("beta") == "managed-agents-2026-04-01"
    assert setting("base_url") == "https://configured.example"


def test_settings_are_reset_by_name_or_all() -> None:
    configure(beta="b", files_beta="f")
    reset_configuration("beta")
    assert (setting("beta"), setting("files_beta")) == ("managed-agents-2026-04-01", "f")
    reset_configuration()
    assert setting("files_beta") is None


def test_none_of_an_optional_parameter_means_not_given() -> None:
    assert given(None) is NOT_GIVEN
    assert given("") == ""
