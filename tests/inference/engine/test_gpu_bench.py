"""The GPU benchmark runs to its end where there is no GPU, on models of next to nothing."""

from bench.gpu import LENGTHS, main


def test_the_benchmark_prints_a_row_for_each_model_and_length() -> None:
    rows = main(["--tiny", "--device", "cpu"])
    assert [row[0] for row in rows].count("Qwen3-0.6B") == len(LENGTHS) + 1
    assert [row[1] for row in rows if row[0] == "XLM-R large"] == ["16", "128", "512", "16-512"]
    # The peer is sentence-transformers itself, and computes the same vectors.
    assert all(float(row[-1]) > 0.999 for row in rows)
