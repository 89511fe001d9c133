import pytest

from xiaonet.archives.layouts import Layout, Named
from xiaonet.errors import ConfigError

DAY_2016_001 = 16801  # days from 1970-01-01 to 2016-01-01


@pytest.mark.parametrize(
    ("layout", "key", "expected"),
    [
        ("sds", "2016/CX/PB01/HHZ.D/CX.PB01..HHZ.D.2016.001", Named("CX.PB01", "", "HHZ", DAY_2016_001)),
        ("sds", "2016/CX/PB01/HHZ.D/CX.PB01.10.HHZ.D.2016.366", Named("CX.PB01", "10", "HHZ", DAY_2016_001 + 365)),
        ("scedc", "2016/2016_001/CIADO__BHE___2016001.ms", Named("CI.ADO", "", "BHE", DAY_2016_001)),
        ("scedc", "2016/2016_001/CISLA__HNZ10_2016001.ms", Named("CI.SLA", "10", "HNZ", DAY_2016_001)),
        ("ncedc", "BG/2016/2016.001/AL1.BG.DPE..D.2016.001", Named("BG.AL1", "", "DPE", DAY_2016_001)),
        ("earthscope", "AK/2016/001/A19K.AK.2016.001", Named("AK.A19K", "", None, DAY_2016_001)),
        ("earthscope", "AK/2016/001/A19K.AK.2016.001#2", Named("AK.A19K", "", None, DAY_2016_001)),
        (
            "{network}/*/{station}_{channel}_{location}_{year}{month}{day}.mseed",
            "GE/old/APE_BHZ_00_20160101.mseed",
            Named("GE.APE", "00", "BHZ", DAY_2016_001),
        ),
    ],
)
def test_names_tell_station_channel_and_day(layout: str, key: str, expected: Named) -> None:
    assert expected == Layout(layout).parse(key)


@pytest.mark.parametrize(
    "key",
    [
        "2016/CX/PB01/HHZ.D/CX.PB01..HHZ.D.2015.001",  # two years
        "2016/CX/PB01/HHZ.D/CX.PB02..HHZ.D.2016.001",  # two stations
        "2016/CX/PB01/HHZ.D/CX.PB01..HHZ.D.2016.001.gz",
        "sds/2016/CX/PB01/HHZ.D/CX.PB01..HHZ.D.2016.001",
        "",
    ],
)
def test_other_names_do_not_fit(key: str) -> None:
    assert Layout("sds").parse(key) is None


def test_only_the_folders_of_the_days_and_networks_are_listed() -> None:
    days = range(DAY_2016_001 - 1, DAY_2016_001 + 1)
    assert ["2015/", "2016/"] == [*Layout("sds").prefixes(days, [])]
    assert ["2015/CI/", "2015/NC/", "2016/CI/", "2016/NC/"] == [*Layout("sds").prefixes(days, ["CI", "NC"])]
    assert ["2015/2015_365/", "2016/2016_001/"] == [*Layout("scedc").prefixes(days, ["CI"])]
    assert ["BG/2015/2015.365/", "BG/2016/2016.001/"] == [*Layout("ncedc").prefixes(days, ["BG"])]
    assert [""] == [*Layout("ncedc").prefixes(days, [])]
    assert [""] == [*Layout("scedc").prefixes(None, [])]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seiscomp", "--layout is 'seiscomp'; wanted sds, scedc, ncedc, earthscope, or a format with {network}"),
        ("{network}/{station}/{year}", "wanted sds, scedc, ncedc, earthscope, or a format with {network}"),
        ("{net}/{station}/{year}/{doy}", "--layout has the field {net}; wanted {year}"),
    ],
)
def test_a_wrong_layout_names_what_is_wanted(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Layout(text)
    assert told in str(caught.value)
