import pytest

from xiaonet.errors import ConfigError
from xiaonet.picking.channels import Place, parse_components, place, why_no_component


@pytest.mark.parametrize(
    ("code", "instrument", "component"),
    [
        ("HHZ", "HH", "Z"),
        ("Z", "", "Z"),
        ("N", "", "N"),
        ("E", "", "E"),
        ("U", "", "Z"),
        ("BH1", "BH", "N"),
        ("BH2", "BH", "E"),
        ("EW1", "1", "E"),
        ("NS1", "1", "N"),
        ("UD1", "1", "Z"),
        ("EW2", "2", "E"),
        ("NS2", "2", "N"),
        ("UD2", "2", "Z"),
        ("EW", "", "E"),
        ("NS", "", "N"),
        ("UD", "", "Z"),
    ],
)
def test_a_channel_code_names_an_instrument_and_a_component(code: str, instrument: str, component: str) -> None:
    found = place(f"XX.STA.00.{code}", {})
    assert found is not None
    assert (f"XX.STA.00.{instrument}", component) == found[:2]
    assert "" == why_no_component(f"XX.STA.00.{code}", {})


@pytest.mark.parametrize("code", ["HDH", "BDF", "EDZ", "HXH", "H"])
def test_a_hydrophone_is_named(code: str) -> None:
    expected = f"channel code {code!r} is that of a hydrophone or another pressure sensor; wanted ground motion"
    assert expected == why_no_component(f"XX.STA..{code}", {})
    assert "" == why_no_component(f"XX.STA..{code}", {"Z": code})


@pytest.mark.parametrize(
    ("given", "instrument"),
    [
        ("E=HHX,N=HHY,Z=HHZ", "HH"),
        (" Z = HHZ, E = HHX ", "HH"),
        ("E=EAST,N=NORTH,Z=VERTICAL", ""),
        ("E=C1,N=C2,Z=C3", "C"),
        ({"Z": "EDH"}, "ED"),
        ("N=UD1,Z=NS1,E=EW1", ""),
    ],
)
def test_what_the_user_says_of_components_comes_first(given: str | dict[str, str], instrument: str) -> None:
    components = parse_components(given)
    found = {code: place(f"XX.STA..{code}", components) for code in components.values()}
    assert {code: Place(f"XX.STA..{instrument}", component, -1) for component, code in components.items()} == found
    assert Place("XX.TWO..BH", "Z", 0) == place("XX.TWO..BHZ", components)


@pytest.mark.parametrize("given", ["HHX", "E=", "Q=HHX", "E=HHX,N=HHX", "E=HHX,E=HHY", {"e": "HHX"}])
def test_components_that_make_no_sense_are_refused(given: str | dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_components(given)
    assert f"components are {given!r}; wanted a channel code for E, N and Z each, such as E=HHX,N=HHY,Z=HHZ" == str(caught.value)
    assert {} == parse_components(None) == parse_components("")
