"""The catalogue's data, and the facts that beat it."""

import datetime
import json
import re

import pytest

from spanwise.errors import FactsError, ModelError
from spanwise.estimate.collectives import all_reduce_s
from spanwise.estimate.layout import Layout
from spanwise.estimate.rates import rates
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


@pytest.mark.parametrize(
    ("quantity", "value", "low", "high", "said"),
    [
        ("small_compute_efficiency", 0.001, 0, 1e21, "high of small_compute_efficiency is 1e+21"),
        ("memory_efficiency", 0.8, 0.7, 7, "high of memory_efficiency is 7"),
        ("blend", 2, 1e-12, 3, "low of blend is 1e-12"),
        ("blend", 2, 0, 3, "low of blend is 0"),
        ("layer_overhead", 1e-5, 1e-6, 1e21, "high of layer_overhead is 1e+21"),
    ],
)
def test_the_ends_of_a_range_keep_the_limits_of_the_value(quantity, value, low, high, said):
    unit = catalogue.unit_of(quantity)
    fact = {**FACT, "name": f"H100-80GB-SXM.{quantity}", "value": value, "unit": unit, "low": low, "high": high}
    with pytest.raises(FactsError) as caught:
        book_from(document(FACT, fact), where="facts.json")
    assert said in str(caught.value)
    assert "facts.json: facts[1]" in caught.value.where
    assert " to 1" in caught.value.remedy, "it names the range"


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


def test_measured_totals_of_real_cards():
    """nvidia-smi on our own cards; what CUDA leaves of it is what the engine sees."""
    for name, mib in (("H200-141GB-SXM", 143771), ("H100-80GB-SXM", 81559)):
        gpu = load_facts().gpu(name)
        assert gpu.driver_memory.kind == "measured"
        assert gpu.driver_memory.value == mib * 2**20
        assert 0.4 < (gpu.driver_memory.value - gpu.memory.value) / 2**30 < 0.7
    assert load_facts().gpu("L4-24GB").driver_memory is None


EXPECTED_GPUS = {
    "H100-80GB-SXM", "H100-80GB-PCIe", "H100-94GB-NVL", "H200-141GB-SXM", "B200-180GB-SXM", "GB200-186GB-NVL72",
    "A100-80GB-SXM", "A100-80GB-PCIe", "A100-40GB-SXM", "A100-40GB-PCIe", "L4-24GB", "L40S-48GB", "A10G-24GB",
    "RTX-4090-24GB", "MI300X-192GB", "lab-cpu",
}  # fmt: skip


def test_what_people_rent_is_there():
    assert set(catalogue.gpus()) >= EXPECTED_GPUS
    # Per GPU and direction, GB/s.
    for name, gb in (("nvlink-3", 300), ("nvlink-4", 450), ("nvlink-5", 900), ("nvlink-5-nvl72", 900), ("pcie-5", 63)):
        assert load_facts().fabric(name).bandwidth.value == gb * 1e9
    # Per node of eight GPUs, Gbit/s.
    for name, gbit in (("efa-p4d", 400), ("efa-p5", 3200), ("tcpxo-a3-mega", 1600), ("ethernet-100g", 100)):
        link = load_facts().fabric(name)
        assert link.bandwidth.value * 8 / 1e9 * (8 if link.per_gpu else 1) == pytest.approx(gbit)


def test_what_is_called_published_names_a_page_that_one_can_open():
    """A figure without an address, or out of somebody's memory, is an assumption."""
    for entries in (catalogue.gpus(), catalogue.fabrics()):
        for facts, _ in entries.values():
            for fact in facts:
                assert not re.search(r"design notes|^from memory", fact.source), fact
                if fact.kind == "catalogue":
                    by_definition = "the name: line rate" in fact.source or "docs/verdicts.md" in fact.source
                    assert "https://" in fact.source or by_definition, fact
                    assert "remembered" not in fact.source


def test_larger_gpus_are_of_one_vendor():
    larger = load_facts().larger_gpus(180e9)
    assert {gpu.name for gpu in larger} == {"B200-180GB-SXM", "GB200-186GB-NVL72"}
    assert [gpu.name for gpu in load_facts().larger_gpus(180e9, "amd")] == ["MI300X-192GB"]


@pytest.mark.parametrize(
    ("fabric", "size", "low_s", "high_s"),
    [
        ("roce-200g", 0, 36e-6, 49e-6),
        ("roce-400g", 0, 36e-6, 49e-6),
        ("efa-400g", 0, 69e-6, 83e-6),
        ("efa-p5", 0, 69e-6, 83e-6),
        ("efa-p4d", 0, 69e-6, 83e-6),
        ("ethernet-10g", 1 << 20, 2e-3, 3e-3),
    ],
)
def test_all_reduces_over_two_hosts_that_the_hops_stand_on_lie_within_the_range(fabric, size, low_s, high_s):
    """What fabrics.yaml names as its starting point, taken as two hosts of eight GPUs: the 10G figure does not say how many ranks."""
    book, weights, layout = load_facts(), weight_format("bfloat16"), Layout(16, 1, 8)
    best, worst = (
        all_reduce_s(rates(book.gpu("H100-80GB-SXM"), book.fabric(fabric), weights, case), layout, size)
        for case in ("best", "worst")
    )
    assert best <= high_s and worst >= low_s
    expected = all_reduce_s(rates(book.gpu("H100-80GB-SXM"), book.fabric(fabric), weights, "expected"), layout, size)
    assert low_s * 0.8 <= expected <= high_s * 1.2


@pytest.mark.parametrize("gpu", ["H100-80GB-SXM", "H200-141GB-SXM", "B200-180GB-SXM", "A100-80GB-SXM"])
def test_small_all_reduces_inside_a_node_take_what_was_measured_elsewhere(gpu):
    book = load_facts()
    used = rates(book.gpu(gpu), None, weight_format("bfloat16"), "expected")
    assert 5e-6 <= all_reduce_s(used, Layout(8, 1, 8), 8192) <= 8e-6


def test_a_new_gpu_by_file():
    """A user adds a GPU the catalogue does not know; it is complete once its three quantities are given."""
    fact = {**FACT, "kind": "stated"}
    facts = [
        {**fact, "name": "X1.memory", "value": 64e9},
        {**fact, "name": "X1.memory_bandwidth", "value": 2e12, "unit": "B/s"},
        {**fact, "name": "X1.bf16_flops", "value": 4e14, "unit": "FLOP/s"},
    ]
    gpu = book_from(document(*facts)).gpu("X1")
    assert (gpu.memory.value, gpu.bf16_flops.kind, gpu.fp8_flops) == (64e9, "stated", None)
    with pytest.raises(FactsError, match=r"X1\.bf16_flops"):
        book_from(document(*facts[:2])).gpu("X1")


@pytest.mark.parametrize("quantity", ["hop", "bandwidth", "efficiency"])
def test_a_measured_link_beats_the_catalogue_whatever_the_order(quantity):
    unit = catalogue.unit_of(quantity)
    measured = {**FACT, "name": f"ethernet-10g.{quantity}", "value": 0.5, "unit": unit}
    weaker = {**measured, "value": 0.25, "kind": "catalogue"}
    for facts in ((measured, weaker), (weaker, measured)):
        assert getattr(book_from(document(*facts)).fabric("ethernet-10g"), quantity).value == 0.5
