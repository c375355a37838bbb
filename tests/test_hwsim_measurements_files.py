"""The public files themselves, where they are at hand: every row answered or noted, and as many as can be."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from hwsim.measurements.judging import judge
from hwsim.measurements.predicting import Predictions, predict
from hwsim.measurements.writing import write_predictions
from tests.measured import failures, read_back, silent

# file -> layout and share of rows that are answered; the rest crosses nodes, is training or other models
QUICK = {
    "aiconfigurator/collectives.csv": ("collectives", 1.0),
    "aiconfigurator/context_mla.csv": ("mla", 1.0),
    "aiconfigurator/encoder_attention.csv.gz": ("attention", 1.0),
    "aiconfigurator/gdn.csv.gz": ("gdn", 1.0),
    "aiconfigurator/generation_mla.csv.gz": ("mla", 1.0),
    "aiconfigurator/mamba2.csv": ("mamba2", 1.0),
    "aiconfigurator/system_specs.csv": ("tables_of_facts", 0.0),
    "llm_decode_tables/mli_layer_tflops.csv": ("layer_rates", 12 / 44),
    "llmcompass/allreduce_4xA100.csv": ("collectives", 1.0),
    "llmcompass/gpt3_layer_tp4.csv": ("gpt3_layer", 1.0),
    "llmcompass/ops_fp16.csv": ("gemm", 1.0),
    "llmservingsim/published_validation_serving.csv": ("serving_published", 0.0),
    "llmservingsim/torchprof_attention_v0.csv": ("attention_chunks", 1.0),
    "llmservingsim/torchprof_layers_v0.csv": ("torchprof_layers", 1.0),
    "llmservingsim/tpu_v6e_attention.csv": ("attention_chunks", 1.0),
    "llmservingsim/vllm_attention_mixed.csv.gz": ("attention_mixed", 1.0),
    "llmservingsim/vllm_layers.csv": ("vllm_layers", 1.0),
    "llmservingsim/vllm_moe.csv": ("moe_activated", 1.0),
    "mamf/allreduce_table.csv": ("collectives", 0.0),
    "ml_energy/diffusion_latency_energy.csv": ("diffusion", 88 / 743),
    "neusight/conv2d_fp32.csv": ("conv", 1.0),
    "neusight/device_specs.csv": ("tables_of_facts", 0.0),
    "neusight/model_configs.csv": ("tables_of_facts", 0.0),
    "neusight/per_op_in_model_fp32.csv": ("neusight_ops", 1.0),
    "neusight/published_e2e_mape_by_device.csv": ("tables_of_facts", 0.0),
    "neusight/published_per_op_mape.csv": ("tables_of_facts", 0.0),
    "splitwise/llm_serving_phases.csv": ("splitwise", 300 / 315),
    "tpu/microbench.csv": ("tpu_products", 1.0),
    "vidur/collectives.csv": ("collectives", 0.59),
    "whispercpp/cpu_square_matmul.csv": ("cpu_products", 0.7),
    "../reference/tpu_kernels_measured.csv": ("tpu_kernels", 1.0),
}
LARGE = {
    "aiconfigurator/context_attention.csv.gz": ("attention", 1.0),
    "aiconfigurator/gemm.csv.gz": ("gemm", 1.0),
    "aiconfigurator/generation_attention.csv.gz": ("attention", 1.0),
    "aiconfigurator/moe.csv.gz": ("moe", 1.0),
    "neusight/gemm_fp32.csv.gz": ("gemm_batched", 1.0),
    "neusight/vector_ops_fp32.csv.gz": ("vector", 1.0),
    "vidur/mlp_ops_fp16.csv.gz": ("vidur", 1.0),
    "mamf/mamf_best_matmul.csv": ("best_matmul", 0.8),
}
TRACED = {
    "edge/mobile_vit_latency.csv": ("mobile_vision", 25 / 46),
    "fastertransformer/bytetransformer_bert.csv": ("bytetransformer", 1.0),
    "fastertransformer/readme_latency.csv": ("fastertransformer", 0.69),
    "llamacpp/geerling_ollama_llamacpp.csv": ("ollama", 0.4),
    "llamacpp/xiongjiedai_llama_bench.csv": ("llama_bench", 0.73),
    "llm_decode_tables/batch1_decode_tokens.csv": ("decode_tokens", 12 / 64),
    "neusight/e2e_fp32.csv": ("neusight_models", 54 / 57),
    "neusight/published_predictions_e2e.csv": ("neusight_models", 138 / 141),
    "optimum_benchmark/llama_a100.csv": ("optimum", 0.85),
    "whispercpp/whisper_bench.csv": ("whisper_bench", 0.7),
    "../reference/energy_measured.csv": ("energy", 0.29),
}

# files that ask for so many models and layouts that the whole takes long: one row in so many
SAMPLED = {
    "tpu/maxtext_training.csv": ("maxtext", 2 / 12, 6),
    "aiconfigurator/serving_e2e_silicon_sample.csv": ("serving", 6 / 13, 250),
    "ml_energy/llm_serving_energy.csv": ("served_energy", 9 / 10, 60),
    "timm/timm_benchmark.csv.gz": ("timm", 4 / 18, 1000),
}


def _answered(shared_folder: Path, name: str, layout: str, share: float) -> Predictions:
    return _judged(predict(shared_folder / "measurements" / name), layout, share)


def _judged(made: Predictions, layout: str, share: float) -> Predictions:
    """What holds of every file; `share` of its rows have an answer, at least."""
    assert made.layout.name == layout
    assert silent(made) == []
    assert failures(made) == []
    assert made.predicted.mean() >= share - 1e-9
    assert (share == 0) == (not made.predicted.any())
    for values in made.values.values():
        assert np.all(values[np.isfinite(values)] > 0)
    return made


@pytest.mark.parametrize("name", QUICK)
def test_a_file_of_kernels_is_answered(name: str, shared_folder: Path) -> None:
    _answered(shared_folder, name, *QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_of_kernels_is_answered(name: str, shared_folder: Path) -> None:
    _answered(shared_folder, name, *LARGE[name])


@pytest.mark.slow
@pytest.mark.needs_torch
@pytest.mark.parametrize("name", TRACED)
def test_a_file_of_models_is_answered(name: str, shared_folder: Path) -> None:
    _answered(shared_folder, name, *TRACED[name])


@pytest.mark.slow
@pytest.mark.needs_torch
@pytest.mark.parametrize("name", SAMPLED)
def test_a_sample_of_a_file_of_many_models_is_answered(
    name: str, shared_folder: Path, tmp_path: Path
) -> None:
    layout, share, step = SAMPLED[name]
    source = shared_folder / "measurements" / name
    stored = source.read_bytes()
    text = (gzip.decompress(stored) if name.endswith(".gz") else stored).decode("utf-8")
    rows = [line for at, line in enumerate(text.splitlines(keepends=True)) if at == 0 or at % step == 1]
    (tmp_path / "sample.csv").write_text("".join(rows), encoding="utf-8")
    made = _judged(predict(tmp_path / "sample.csv"), layout, share)
    assert len(made.predicted) == len(rows) - 1


@pytest.mark.slow
@pytest.mark.needs_torch
def test_edge_devices_rank_their_models_as_measured(shared_folder: Path) -> None:
    """Spearman's coefficient; no row was fitted."""
    made = _answered(shared_folder, "edge/mobile_vit_latency.csv", *TRACED["edge/mobile_vit_latency.csv"])
    measured, ours = made.table.number("latency_us"), made.values["latency_us"]
    for device in ("jetson-orin-agx", "iphone-12", "iphone-14"):
        rows = np.flatnonzero((np.array(made.devices) == device) & made.predicted)
        assert rows.size >= 3
        places = [np.argsort(np.argsort(one[rows])) for one in (measured, ours)]
        assert np.corrcoef(*places)[0, 1] >= 0.8, device


def test_every_public_file_is_in_one_of_these_lists(shared_folder: Path) -> None:
    folder = shared_folder / "measurements"
    files = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.csv*")}
    assert files <= {*QUICK, *LARGE, *TRACED, *SAMPLED}


def test_rows_of_a_real_file_come_back_as_they_were(shared_folder: Path, tmp_path: Path) -> None:
    path = shared_folder / "measurements" / "llmcompass" / "ops_fp16.csv"
    write_predictions(predict(path), tmp_path / "out.csv")
    before, after = read_back(path), read_back(tmp_path / "out.csv")
    assert [{name: row[name] for name in before[0]} for row in after] == before
    assert all(float(row["predicted_us"]) > 0 for row in after)


def test_other_predictors_errors_are_those_the_file_records(shared_folder: Path) -> None:
    made = _answered(shared_folder, "neusight/per_op_in_model_fp32.csv", "neusight_ops", 1.0)
    rivals = {one.label: one for one in judge(made).rivals}
    assert set(rivals) == {"neusight", "roofline", "habitat", "li_et_al"}
    assert all(one.rows > 500 and one.mape > 0 for one in rivals.values())
