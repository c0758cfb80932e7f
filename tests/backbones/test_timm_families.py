"""One architecture of every timm family, on the meta device: what scripts/walk_timm.py does for all of them."""

import pytest
import timm
from support import script

WALK = script("walk_timm.py")
SMALLEST = [  # the one with the fewest modules in each family
    "beit_base_patch16_224", "botnet26t_256", "cait_s24_224", "coat_lite_mini", "convit_base",
    "convmixer_1024_20_ks9_p14", "cpubone_nano", "crossvit_9_240", "csatv2", "cspnext_tiny", "darknet17",
    "davit_tiny", "deepseek_vit_412m", "deit3_base_patch16_224", "densenet121", "dla34", "dpn48b",
    "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0", "efficientvim_m1", "efficientvit_b0",
    "efficientvit_m2", "ese_vovnet19b_slim", "eva02_small_patch14_224", "fasternet_t0", "fastvit_t8",
    "focalnet_tiny_srf", "gcvit_xxtiny", "gemma4_vit_167m", "ghostnet_050", "hardcorenas_a", "hgnet_tiny",
    "hiera_tiny_224", "hrnet_w18_small", "iformer_t", "inception_next_atto", "inception_resnet_v2", "inception_v3",
    "inception_v4", "lcnet_035", "lcnetv2_small", "legacy_seresnet18", "legacy_xception", "levit_128s",
    "lowformer_e1", "mixer_s16_224", "mobilenetv5_base", "mobilevitv2_050", "mvitv2_tiny",
    "naflexvit_base_patch16_gap", "nasnetalarge", "nest_tiny", "nextvit_small", "pit_s_224", "pnasnet5large",
    "poolformer_s12", "pvt_v2_b0", "qwen3_vit_88m", "rdnet_tiny", "regnetx_002", "repghostnet_050", "repvit_m1_1",
    "res2net50_48w_2s", "resnest14d", "resnetv2_18", "rexnet_100", "sam2_hiera_tiny", "samvit_base_patch16_224",
    "selecsls42", "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050", "swiftformer_xs",
    "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224", "swinv2_tiny_window8_256", "test_byobnet", "test_coatnet",
    "test_convnext", "test_efficientnet", "test_mambaout", "test_nfnet", "test_resnet", "test_vit",
    "tiny_vit_5m_224", "tnt_s_legacy_patch16_224", "tresnet_m", "twins_pcpvt_small", "vgg11", "visformer_small",
    "vit_srelpos_medium_patch16_224", "vit_tiny_r_s16_p8_224", "vitamin_base_224", "volo_d1_224", "xception41p",
    "xcit_nano_12_p8_224",
]  # fmt: skip


@pytest.mark.parametrize("name", SMALLEST)
def test_family(name):
    """Build, find the slots, insert `se` at every stage slot, run, remove."""
    row = WALK.walk(name)
    assert row["ok"], row["why"]
    assert row["stages"] > 0
    assert row["blocks"] >= row["stages"]


def test_every_family_has_its_architecture():
    families = {WALK.family(name) for name in timm.list_models()}
    assert families == {WALK.family(name) for name in SMALLEST}
