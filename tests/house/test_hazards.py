"""Every hazard of reading and of acting stands in some test, by its id in the docstring, name or a comment."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

# Not here: J08, stated in docs/limits.md.
# Groups A to F as far as they concern reading, G06 to G09, J, and what the Dagster surface must survive.
READING = re.findall(
    r"\S+",
    """
A01 A02 A03 A05 A06 A07 A09 A10 A11 A13 A14 A16
B01 B04 B05 B06 B11 B13 B15 B18
C01 C02 C03 C04 C05 C06 C07 C10 C11 C12 C14 C15 C16 C19 C21
D01 D02 D03 D04 D05 D06 D11 D12 D14 D16
E01 E02 E03 E04 E05 E06 E07 E12
F02 F03 F05 F08 F13 F14 F20
G03 G04 G06 G09
J01 J02 J03 J04 J05
K14 M01 M02 M03 M04 M08
""",
)
# Groups B, E and F as far as they concern acting; G to K as far as policies, plan, gate and undo answer for them.
ACTING = re.findall(
    r"\S+",
    """
B02 B07 B09 B10
E07
F01 F06 F08 F09 F12 F15 F16
G01 G03 G04 G05 G07 G11 G12 G13 G14 G15
H01 H02 H04 H05 H06 H07 H08 H09 H10 H11 H13 H14 H16 H19
I01 I02 I03 I04 I05 I07 I10 I11 I12
J06
K01 K05 K06 K07 K08 K11
M04
""",
)
# Every row of the archive's catalogue of hazards.
ARCHIVING = re.findall(
    r"\S+",
    """
A1 A2 A3 A5 A6 A8 A9 A10 A12 A14 A16 A17 A19
B20 B22 B23 B25 B26 B27 B29 B30 B32 B34
C36 C37 C38 C39 C41 C42 C44 C46 C47 C49
D51 D52 D54 D56 D58 D59 D60 D62 D64 D66 D67 D69
E71 E72 E73 E75
F78 F79 F80 F82 F83 F85
G87 G88 G90 G91 G92 G93 G96 G98 G100 G103 G105
H106 H108 H109 H111 H113 H114 H117
I118 I119 I121 I123 I125
""",
)
ARCHIVE_TESTS = [
    file for file in TESTS.rglob("*.py") if re.search(r"archiv|partition|immutable", file.relative_to(TESTS).as_posix())
]


def mentions() -> set[str]:
    found: set[str] = set()
    for file in TESTS.rglob("*.py"):
        if file != Path(__file__):
            ids = re.findall(r"(?<![a-z0-9])[a-m]\d\d(?![a-z0-9])", file.read_text(), re.IGNORECASE)
            found |= {found_id.upper() for found_id in ids}
    return found


@pytest.mark.parametrize("hazard", sorted({*READING, *ACTING}))
def test_hazard_has_a_test(hazard: str) -> None:
    assert hazard in mentions()


@pytest.mark.parametrize("hazard", ARCHIVING)
def test_hazard_of_the_archive_has_a_test(hazard: str) -> None:
    named = re.compile(rf"(?<![A-Za-z0-9]){hazard[0]}0*{hazard[1:]}(?![0-9])")
    assert any(named.search(file.read_text()) for file in ARCHIVE_TESTS)
