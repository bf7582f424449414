"""HPACK, with python-hpack as the oracle, and the examples of RFC 7541."""

from __future__ import annotations

import hpack
import pytest
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from service_precheck.codecs import hpack as ours
from service_precheck.codecs.hpack import Decoder, Header, NotCompressed

MOST = 65_536
NAMES = st.one_of(
    st.sampled_from([b":status", b"content-type", b"grpc-status", b"date", b"x-same"]),
    st.binary(min_size=1, max_size=20),
)
VALUES = st.one_of(
    st.sampled_from([b"", b"200", b"application/grpc", b"0"]), st.binary(max_size=200)
)
BLOCKS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=8), min_size=1, max_size=5)


def theirs(table_size: int = ours.TABLE_SIZE) -> hpack.Encoder:
    encoder = hpack.Encoder()
    encoder.header_table_size = table_size
    return encoder


def plain(headers: object) -> list[Header]:
    return [(bytes(name), bytes(value)) for name, value in headers]  # type: ignore[attr-defined]


def test_tables() -> None:
    """The static table and the Huffman codes are those of the document."""
    assert ours._STATIC == HeaderTable.STATIC_TABLE
    assert list(ours._LENGTHS) == list(REQUEST_CODES_LENGTH)
    for length, (first, symbols) in enumerate(ours._canonical()):
        for place, symbol in enumerate(symbols):
            assert REQUEST_CODES[symbol] == first + place
            assert REQUEST_CODES_LENGTH[symbol] == length


@given(BLOCKS, st.booleans(), st.sampled_from([0, 64, 500, 4096]))
def test_what_an_encoder_says(blocks: list[list[Header]], huffman: bool, size: int) -> None:
    """What python-hpack encodes is decoded, block after block, whatever table it uses."""
    encoder, decoder = theirs(size), Decoder(MOST)
    for block in blocks:
        assert decoder.decode(encoder.encode(block, huffman=huffman)) == block


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=8), st.lists(st.tuples(NAMES, VALUES), max_size=3)
)
def test_what_a_decoder_hears(headers: list[Header], secret: list[Header]) -> None:
    """What we encode python-hpack decodes, and the secret ones as such."""
    heard = list(hpack.Decoder().decode(ours.encode(headers, secret), raw=True))
    assert plain(heard) == [*headers, *secret]
    assert [type(one) for one in heard[len(headers) :]] == [hpack.NeverIndexedHeaderTuple] * len(
        secret
    )


@given(st.binary(min_size=100, max_size=40_000))
def test_long_values(value: bytes) -> None:
    """Lengths of several digits go both ways."""
    headers = [(b"x", value)]
    assert Decoder(MOST).decode(theirs().encode(headers)) == headers
    decoder = hpack.Decoder(max_header_list_size=MOST)
    assert plain(decoder.decode(ours.encode(headers), raw=True)) == headers


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_garbage(blocks: list[bytes]) -> None:
    """Whatever comes is headers or NotCompressed; where it is headers, python-hpack reads the same."""
    decoder, oracle = Decoder(MOST), hpack.Decoder()
    try:
        for block in blocks:
            headers = decoder.decode(block)
            assert plain(oracle.decode(block, raw=True)) == headers
    except NotCompressed:
        pass


@given(BLOCKS, st.data())
def test_mutations(blocks: list[list[Header]], data: st.DataObject) -> None:
    """An encoding with a few bytes changed is headers or NotCompressed, nothing else."""
    encoder, decoder = theirs(), Decoder(MOST)
    try:
        for block in blocks:
            raw = bytearray(encoder.encode(block))
            for _ in range(data.draw(st.integers(0, 3))):
                if raw:
                    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
            assert isinstance(decoder.decode(bytes(raw)), list)
    except NotCompressed:
        pass


def test_examples_of_responses() -> None:
    """RFC 7541 appendix C.6: three responses in Huffman codes, with evictions from a table of 256 bytes."""
    decoder = Decoder(MOST)
    first = decoder.decode(
        bytes.fromhex(
            "3fe101"
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff"
            "6e919d29ad171863c78f0b97c8e9ae82ae43d3"
        )
    )
    assert first == [
        (b":status", b"302"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ]
    second = decoder.decode(bytes.fromhex("4883640effc1c0bf"))
    assert second == [(b":status", b"307"), *first[1:]]
    third = decoder.decode(
        bytes.fromhex(
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7"
            "b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"
        )
    )
    assert third == [
        (b":status", b"200"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT"),
        (b"location", b"https://www.example.com"),
        (b"content-encoding", b"gzip"),
        (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ]


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("80", "index that no table has"),
        ("be", "index that no table has"),
        ("ffffffffff7f", "number that does not end"),
        ("7fffffffffff", "number that does not end"),
        ("3fe21f", "change of the table's size"),
        ("8820", "change of the table's size"),
        ("000161", "cut off"),
        ("00", "cut off"),
        ("00057878", "cut off"),
        ("000084ffffffff", "the end of a string within it"),
        ("000082ffff", "filled up with something"),
        ("00008100", "filled up with something"),
    ],
)
def test_what_is_wrong(block: str, why: str) -> None:
    """Each rule of the document that a block breaks is told."""
    with pytest.raises(NotCompressed, match=why):
        Decoder(MOST).decode(bytes.fromhex(block))


def test_bomb() -> None:
    """One long entry of the table, asked for again and again, ends at the bound for the whole list."""
    decoder = Decoder(MOST)
    value = b"v" * 4000
    block = theirs().encode([(b"n", value)])
    assert decoder.decode(block) == [(b"n", value)]
    with pytest.raises(NotCompressed, match="more than 64 KiB"):
        decoder.decode(b"\xbe" * 60_000)
