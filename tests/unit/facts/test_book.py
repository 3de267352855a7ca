"""The catalogue's data, and the facts that beat it."""

import datetime
import json
import re

import pytest

from spanwise.errors import FactsError, ModelError
from spanwise.facts import catalogue
from spanwise.facts.book import book_from, load_facts
from spanwise.facts.dtypes import weight_format
from spanwise.intent.types import InlineFabric, InlineGpu

FACT = {
    "name": "H100-80GB-SXM.memory",
    "value": 7e10,
    "unit": "B",
    "source": "nvidia-smi",
    "date": "2026-11-24",
    "kind": "measured",
}


def document(*facts):
    return {"schema": "spanwise.facts/1", "facts": list(facts)}


@pytest.mark.parametrize("name", catalogue.gpus())
def test_every_gpu_is_complete_and_sourced(name):
    gpu = load_facts().gpu(name)
    assert gpu.link is not None
    assert 1e9 < gpu.memory.value < 1e12
    assert gpu.fp8_flops is None or gpu.fp8_flops.value >= 1.9 * gpu.bf16_flops.value
    # The name carries the data sheet's gigabytes; what an engine sees lies within a tenth of it.
    said = re.search(r"(\d+)GB", name)
    if said:
        assert gpu.memory.value == pytest.approx(int(said[1]) * 1e9, rel=0.1)


@pytest.mark.parametrize("name", catalogue.fabrics())
def test_every_fabric_is_complete_and_sourced(name):
    link = load_facts().fabric(name)
    assert 1e-7 < link.hop.value < 1e-3
    assert 0 < link.efficiency.value <= 1
    speed = re.search(r"(\d+)g$", name)
    if speed:
        assert link.bandwidth.value * 8 / 1e9 == pytest.approx(int(speed[1]))


def test_every_catalogue_fact_has_source_date_and_an_ordered_range():
    for entries in (catalogue.gpus(), catalogue.fabrics()):
        for facts, _ in entries.values():
            for fact in facts:
                datetime.date.fromisoformat(fact.date)
                assert len(fact.source) > 10 or fact.source == "the name: line rate"
                if fact.kind == "assumption" or fact.low is not None:
                    assert fact.low is not None, f"{fact.name} is an assumption without a range"
                    assert fact.low <= fact.value <= fact.high


def test_tcp_hops_are_assumptions():
    for name in ("ethernet-10g", "ethernet-25g", "ethernet-100g"):
        hop = load_facts().fabric(name).hop
        assert hop.kind == "assumption"
        assert hop.high / hop.low > 4


def test_measured_beats_stated_beats_catalogue(tmp_path):
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(document(FACT)))
    assert load_facts(path).gpu("H100-80GB-SXM").memory.kind == "measured"
    assumed = {**FACT, "kind": "assumption"}
    assert book_from(document(assumed)).gpu("H100-80GB-SXM").memory.kind == "catalogue"
    inline = InlineGpu(name="mine", memory_gib=1, memory_bandwidth_gb_per_s=1, bf16_tflops=1)
    book = book_from(document({**FACT, "name": "mine.memory"}))
    assert book.gpu(inline).memory.value == 7e10
    assert load_facts().gpu(inline).memory.value == 2**30


def test_a_new_fabric_by_file():
    hop = {
        "name": "my-net.hop",
        "value": 9e-6,
        "unit": "s",
        "source": "probe",
        "date": "2026-11-24",
        "kind": "measured",
    }
    width = {**hop, "name": "my-net.bandwidth", "value": 5e9, "unit": "B/s"}
    link = book_from(document(hop, width)).fabric("my-net")
    assert (link.hop.value, link.bandwidth.value, link.per_gpu) == (9e-6, 5e9, False)
    with pytest.raises(FactsError, match=r"my-net\.bandwidth"):
        book_from(document(hop)).fabric("my-net")


def test_inline_fabric_units():
    link = load_facts().fabric(InlineFabric(latency_us=20, bandwidth_gbit_per_s=100))
    assert (link.hop.value, link.bandwidth.value) == (pytest.approx(20e-6), 12.5e9)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ([], "schema"),
        ({"schema": "spanwise.facts/2"}, "schema"),
        ({"schema": "spanwise.facts/1"}, "no list"),
        (document(3), "mapping"),
        (document({**FACT, "extra": 1}), "extra"),
        (document({**FACT, "value": "7"}), "positive"),
        (document({**FACT, "value": True}), "positive"),
        (document({**FACT, "value": -1}), "positive"),
        (document({**FACT, "value": 10**400}), "positive"),
        (document({**FACT, "unit": "GiB"}), "give it in B"),
        (document({**FACT, "name": "memory"}), "quantity"),
        (document({**FACT, "name": "H100.speed"}), "quantity"),
        (document({**FACT, "kind": "guess"}), "kind"),
        (document({**FACT, "date": "yesterday"}), "date"),
        (document({**FACT, "date": "2026-13-01"}), "date"),
        (document({**FACT, "low": 1.0}), "together"),
        (document({**FACT, "low": 8e10, "high": 9e10}), "within"),
        (document(FACT, {**FACT, "value": 8e10}), "twice"),
    ],
)
def test_bad_facts_are_refused(broken, said):
    with pytest.raises(FactsError) as caught:
        book_from(broken, where="facts.json")
    assert said in str(caught.value)
    assert "facts.json" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"schema": NaN}', b"[" * 100_000, b"9" * 5000])
def test_files_that_are_no_facts(tmp_path, data):
    path = tmp_path / "facts.json"
    path.write_bytes(data)
    with pytest.raises(FactsError):
        load_facts(path)
    with pytest.raises(FactsError):
        load_facts(tmp_path)


def test_bits():
    assert (
        weight_format("int4").linear_bytes(128) == 64 + 2 + 1
    )  # 128 weights, one scale (2 bytes), one zero point (4 bits)
    assert weight_format("mxfp4").linear_bytes(32) == 17
    assert weight_format("fp8").plain_bytes(10) == 20
    with pytest.raises(ModelError):
        weight_format("fp3")
