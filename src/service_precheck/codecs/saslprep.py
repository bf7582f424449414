"""SASLprep: the one spelling of a password that both sides of a login compute from it.

RFC 4013, a profile of RFC 3454; what Unicode 3.2 did not know is not allowed. ASCII is its own
spelling: ask only for what is not, since the tables cost a millisecond and 1 MiB to load.
"""

from __future__ import annotations


def prepared(text: str) -> str:
    """`text` as RFC 4013 section 2 has it. Raises ValueError where it holds what is not allowed."""
    import stringprep
    import unicodedata

    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if not normal or any(table(c) for table in prohibited for c in normal):
        raise ValueError("a character that SASLprep does not allow")
    if any(stringprep.in_table_d1(c) for c in normal):
        # RFC 3454 section 6: text from right to left is so from end to end.
        whole = stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1])
        if not whole or any(stringprep.in_table_d2(c) for c in normal):
            raise ValueError("text in both directions, which SASLprep does not allow")
    return normal
