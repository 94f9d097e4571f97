"""Messages about the keys of a recipe, of its model and of its training."""

import shlex
from pathlib import Path

import pytest

from engine.command import main
from engine.diagnosis.remedies import CHECK_DATA, FIND_LR, PACK_DATA
from tests.engine.remedies.provoking import RUN, Case, every, require_remedies_work
from tests.engine.remedies.sandbox import voc

LOAD = "run r.yaml --explain"
UNET = "model.arch=unet model.encoder=resnet18"
VIT = "model.arch=linear model.encoder=tu-test_vit"

CASES = [
    Case("expected key.path=value, for example", f"{LOAD} train.batch", drop=("train.batch",)),
    Case("the rate would rise", f"{LOAD} schedule.min_lr=1"),
    Case("but the whole training has", f"{LOAD} schedule.warmup=50"),
    Case("updates after the warm-up, and each needs", f"{LOAD} schedule.name=cyclic schedule.cycles=500"),
    Case("the smaller crops end at", f"{LOAD} 'augment.progressive=[{{crop: 16, until: 100%}}]'"),
    Case("the discriminator would never be used", f"{LOAD} adversarial.start=50"),
    Case("from_scratch: true and weights exclude each other", f"{LOAD} model.weights=w.pth"),
    Case("null, so the encoder would train from random", f"{RUN} model.from_scratch=false",
         ignore=("model.weights",)),
    Case("cannot be split evenly over", f"{RUN} train.batch=3 train.accumulate=2"),
    Case("it needs two. Type train.batch=", f"{RUN} {UNET} model.decoder_width=null train.batch=1"),
    Case("data.resident is gpu, but", f"{RUN} data.resident=gpu"),
    Case("is no class of this data set, whose ids are", f"{RUN} augment.crop_on=[25]"),
    Case("max records CUDA graphs of", f"{RUN} train.compile=max"),
    Case("a CUDA graph draws other random numbers", f"{LOAD} train.compile=max train.accumulate=2"),
    Case("which the repeated layers need, cannot be", f"{LOAD} train.compile=max model.checkpointing=true"),
    Case("freezes every parameter", f"{RUN} model.freeze=[encoder,head]"),
    Case("no layer of this model is called", f"{RUN} log.features=1 log.feature_layers=[encodr]"),
    Case("optimizer.layer_decay works only for",
         f"{RUN} {UNET} model.decoder_width=null optimizer.layer_decay=0.9"),
    Case("does not take it. Type", f"{RUN} {UNET}"),
    Case("is an option of another head", f"{RUN} {VIT} model.decoder_width=null model.readout=add"),
    Case("needs maps at several strides", f"{RUN} {VIT} model.decoder_width=null model.arch=unet"),
    Case("needs a plain vision transformer", f"{RUN} {VIT} model.encoder=resnet18 model.decoder_width=null"),
    Case("takes images of one size only", f"{RUN} {UNET} model.encoder=tu-coatnet_pico_rw_224 "
         "model.decoder_width=null"),
    Case("needs model.encoder, for example", f"{RUN} model.arch=unet model.decoder_width=null"),
    Case("model.auxiliary.layer: no layer of this", f"{RUN} 'model.auxiliary={{layer: encoder.stage.2}}'",
         ignore=("model.auxiliary.layer: ",)),
    Case("model.auxiliary needs crops whose",
         f"{RUN} 'model.auxiliary={{layer: encoder.stages.2}}' augment.crop=40"),
    Case("gives no map (B, C, h, w)", f"{RUN} 'model.auxiliary={{layer: encoder.stages.2.blocks}}'"),
    Case("a model with this head is neither",
         f"{RUN} 'model.auxiliary={{layer: encoder.stages.2}}' train.compile=true"),
    Case("frozen keeps the statistics", f"{LOAD} train.batch_norm=frozen",
         ignore=("model.from_scratch",)),
    Case("auto keeps the batch that", f"{LOAD} train.batch=auto train.accumulate=auto"),
    Case("true, but the search of", f"{LOAD} train.batch=auto train.shard=true",
         ignore=("train.batch=auto", "train.accumulate=auto")),
    Case("Type another one, such as optimizer.name=adamw", f"{RUN} optimizer.name=adahessian"),
    Case("return no map (B, C, h, w)", f"{RUN} log.features=1 log.feature_layers=[head.mlps.0]"),
    Case("the averages are kept with the latest", f"{LOAD} 'train.ema_widths=[0.05,0.1]'"),
]  # fmt: skip


@every(CASES)
def test_what_is_typed_next_works(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_remedies_work(case, capsys)


@pytest.mark.parametrize("remedy", [CHECK_DATA, FIND_LR, PACK_DATA])
def test_the_commands_of_the_notes_run(remedy: str, folder: Path) -> None:
    voc()
    assert main(shlex.split(remedy.replace("<recipe>", "r.yaml"))[1:]) == 0
