"""DeepFloyd IF through diffusers: tiny random pipelines, saved and loaded through the real path."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from stspbr.errors import StspbrError

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from stspbr.priors.floyd import FloydPrior, find_stages, free_memory  # noqa: E402
from stspbr.priors.protocol import Extra  # noqa: E402
from stspbr.settings import TextureSettings  # noqa: E402

CPU = torch.device("cpu")


def unet(side: int, fine: bool):
    torch.manual_seed(3)
    return diffusers.UNet2DConditionModel(
        sample_size=side, layers_per_block=1, block_out_channels=(32, 64),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        in_channels=6 if fine else 3, out_channels=6, cross_attention_dim=32, encoder_hid_dim=32,
        attention_head_dim=8, addition_embed_type="text", addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift", act_fn="gelu",
        class_embed_type="timestep" if fine else None, mid_block_scale_factor=1.414,
        time_embedding_act_fn="gelu" if fine else None,
    )  # fmt: skip


def scheduler(**others):
    return diffusers.DDPMScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5, prediction_type="epsilon", variance_type="learned_range", **others,
    )  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder as a user has it: both stages, random weights, pictures of 16² and 32²."""
    folder = tmp_path_factory.mktemp("floyd")
    config = transformers.T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    torch.manual_seed(0)
    encoder = transformers.T5EncoderModel(config)
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    vocabulary += [(letter, -2.0) for letter in "abcdefghijklmnopqrstuvwxyz,"]
    tokenizer = transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0)
    nothing = {"safety_checker": None, "feature_extractor": None, "watermarker": None}
    first = diffusers.IFPipeline(
        tokenizer=tokenizer, text_encoder=encoder, unet=unet(16, False), scheduler=scheduler(), **nothing,
        requires_safety_checker=False,
    )  # fmt: skip
    first.save_pretrained(folder / "IF-I")
    second = diffusers.IFSuperResolutionPipeline(
        tokenizer=tokenizer, text_encoder=encoder, unet=unet(32, True), scheduler=scheduler(), **nothing,
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="linear"), requires_safety_checker=False,
    )  # fmt: skip
    second.save_pretrained(folder / "IF-II")
    return folder


def test_both_stages_answer_and_embeddings_are_stored(weights, tmp_path):
    prior = FloydPrior(weights, tmp_path, CPU, accepted=True)
    prior.prepare(["brass"], ["front", "back"])
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob("text-*.safetensors")}
    assert len(stored) == 2
    condition = prior.encode(["brass", "brass"], ["front", "back"])
    assert condition.text.shape[0] == 2 and condition.text.shape == condition.empty.shape
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("text-*.safetensors")} == stored
    assert [stage.side for stage in prior.stages] == [16, 32]
    assert [stage.learns_normals for stage in prior.stages] == [False, True]
    assert prior.stages[1].uses == {"low"}
    x = torch.rand(2, 16, 16, 3)
    guided, plain = (prior.stages[0].x0(x, 500, condition, value, Extra()) for value in (7.0, 1.0))
    assert guided.shape == x.shape and torch.isfinite(guided).all() and not torch.equal(guided, plain)
    low = torch.zeros(2, 32, 32, 3)
    noise = torch.ones_like(low)
    noised = prior.stages[1].noised_low(low, 250, noise)
    linear = diffusers.DDPMScheduler(beta_schedule="linear").alphas_cumprod[250]
    assert torch.allclose(noised, (1 - linear).sqrt() * noise)  # the noising scheduler's, not the sampler's
    fine = prior.stages[1].x0(torch.rand(2, 32, 32, 3), 300, condition, 4.0, Extra(low=noised, level=250))
    assert fine.shape == (2, 32, 32, 3) and torch.isfinite(fine).all()


def test_x0_inverts_the_schedule(weights, tmp_path):
    prior = FloydPrior(weights, tmp_path, CPU, accepted=True)
    stage, condition = prior.stages[0], prior.encode(["clay"], ["top"])
    x = torch.rand(1, 16, 16, 3)
    found = stage.x0(x, 400, condition, 1.0, Extra())
    epsilon = stage._unet(x.permute(0, 3, 1, 2), 400, encoder_hidden_states=condition.text).sample[:, :3]
    signal = scheduler().alphas_cumprod[400]
    again = signal.sqrt() * found + (1 - signal).sqrt() * epsilon.permute(0, 2, 3, 1)
    assert torch.allclose(again, x, atol=1e-5)


def test_what_is_missing_is_named(weights, tmp_path):
    with pytest.raises(StspbrError, match="--accept-prior-licence"):
        FloydPrior(weights, tmp_path, CPU, accepted=False)
    with pytest.raises(StspbrError, match="no such folder"):
        find_stages(tmp_path / "nowhere")
    with pytest.raises(StspbrError, match="no pipeline of the first stage"):
        find_stages(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(weights, broken)
    shutil.rmtree(broken / "IF-II" / "image_noising_scheduler")
    with pytest.raises(StspbrError, match="IF-II lacks the component image_noising_scheduler"):
        find_stages(broken)


def test_too_little_memory_is_one_line(weights, tmp_path, monkeypatch):
    assert free_memory() is None or free_memory() > 0
    monkeypatch.setattr("stspbr.priors.floyd.free_memory", lambda: 1000)
    with pytest.raises(StspbrError, match="GB of memory"):
        FloydPrior(weights, tmp_path, CPU, accepted=True).encode(["clay"], ["top"])


def test_three_steps_of_both_stages_make_a_bake(weights, tmp_path):
    from stspbr.stages.session import Session
    from stspbr.stages.texture import run_texture

    settings = TextureSettings(
        mesh="procedural:knob", prompt="polished brass", prior=f"floyd:{weights}", accept_prior_licence=True,
        size=32, steps=[3, 3], views=2, fine_views=1, turntable=1, lights=["procedural:studio"],
    )  # fmt: skip
    artifact = run_texture(Session.open(tmp_path, threads=1, quiet=True), settings)
    metrics = json.loads(artifact.file("metrics.json").read_text())
    assert metrics["prior"]["licence"].startswith("DeepFloyd IF") and metrics["skipped_steps"] == 0
    assert any("normal" in name for name in artifact.files)  # bumps were seen, so normals were learned
