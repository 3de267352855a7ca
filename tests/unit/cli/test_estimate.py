"""``spanwise estimate``: points in, times with ranges out."""

import json

import pytest

from tests.unit.cli.test_decide import spanwise

MODEL = "meta-llama/Meta-Llama-3-8B"
CSV = "phase,batch,context_tokens,new_tokens\nprefill,1,0,512\ndecode,8,515,1\n"


@pytest.fixture
def points(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(CSV)
    return path


def test_json(points):
    done = spanwise("estimate", "--model", MODEL, "--gpu", "H200-141GB-SXM", "--points", points, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["kv_capacity_tokens"] == pytest.approx(897_264, rel=0.02)
    assert [point["phase"] for point in document["points"]] == ["prefill", "decode"]
    for point in document["points"]:
        assert point["uncertainty"][0] <= point["time_ms"] <= point["uncertainty"][1]
    assert document["points"][1]["time_ms"] == pytest.approx(4.996, rel=0.05)


def test_the_fabric_costs(points):
    layout = ("--tensor-parallel-size", 2, "--json")
    base = ("estimate", "--model", MODEL, "--gpu", "H100-80GB-SXM", "--points", points)
    near, far = (json.loads(spanwise(*base, *layout, *more).stdout) for more in ((), ("--fabric", "ethernet-10g")))
    assert (near["nodes"], far["nodes"]) == (1, 2)
    assert far["points"][1]["time_ms"] > 2 * near["points"][1]["time_ms"]


def test_a_table_for_people(points):
    done = spanwise("estimate", "--model", MODEL, "--gpu", "H100-80GB-SXM", "--points", points)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 4


def test_the_example_of_points_works_and_the_hint_names_it(tmp_path):
    base = ("estimate", "--model", MODEL, "--gpu", "H100-80GB-SXM", "--points")
    done = spanwise(*base, "examples/points.csv", "--json")
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)["points"]
    assert {item["phase"] for item in answers} == {"prefill", "decode"}
    assert all(item["fits"] for item in answers)
    assert "examples/points.csv" in spanwise(*base, tmp_path / "none.csv").stderr


def test_a_point_that_cannot_run_is_marked(tmp_path):
    path = tmp_path / "points.csv"
    rows = ("decode,100000,8000,1", "decode,1,100000,1", "prefill,200,0,8000", "decode,8,515,1")
    path.write_text("\n".join(("phase,batch,context_tokens,new_tokens", *rows)))
    base = ("estimate", "--model", MODEL, "--gpu", "H200-141GB-SXM", "--points", path)
    answers = json.loads(spanwise(*base, "--json").stdout)["points"]
    assert [item["fits"] for item in answers] == [False, False, False, True]
    assert "800100000 tokens of KV cache" in answers[0]["why_not"]
    assert "at most 8192" in answers[1]["why_not"]
    assert "why_not" not in answers[3]
    lines = spanwise(*base).stdout.splitlines()
    assert ["does not fit" in line for line in lines[2:]] == [True, True, True, False]
    weights = spanwise("estimate", "--model", "meta-llama/Meta-Llama-3-70B", "--gpu", "L4-24GB", *base[5:], "--json")
    assert {item["why_not"] for item in json.loads(weights.stdout)["points"]} == {"the weights do not fit"}


def test_several_steps_of_decode_are_at_one_context_and_that_is_said(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("phase,batch,context_tokens,new_tokens\ndecode,8,512,1\ndecode,8,512,10\n")
    base = ("estimate", "--model", MODEL, "--gpu", "H200-141GB-SXM", "--points", path)
    one, ten = (item["time_ms"] for item in json.loads(spanwise(*base, "--json").stdout)["points"])
    assert ten == pytest.approx(10 * one)
    assert spanwise(*base).stdout.splitlines()[-1].startswith("decode with new > 1")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--tensor-parallel-size", 3), "32 attention heads"),
        (("--pipeline-parallel-size", 33), "32 layers"),
        (("--tensor-parallel-size", 0), "--tensor-parallel-size"),
        (("--dtype", "fp3"), "fp3"),
        (("--fabric", "wifi"), "wifi"),
        (("--gpu-memory-utilization", 1.5), "1.5"),
        (("--max-num-batched-tokens", 0), "--max-num-batched-tokens"),
    ],
)
def test_bad_input(points, more, said):
    done = spanwise("estimate", "--model", MODEL, "--gpu", "H100-80GB-SXM", "--points", points, *more)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_bad_files(tmp_path):
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe")
    for name in ("none.csv", ".", "bytes.csv"):
        done = spanwise("estimate", "--model", MODEL, "--gpu", "H100-80GB-SXM", "--points", tmp_path / name)
        assert done.returncode == 2
        assert "points file" in done.stderr or "UTF-8" in done.stderr
