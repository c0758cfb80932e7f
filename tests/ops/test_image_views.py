"""Views of images against torchvision's functions, which work on one image at a time."""

import pytest
import torch
from torchvision.transforms.v2 import functional as peer

from nasbench.ops.image_views import ImageViews, adjusted, blurred, cropped, grey_of

IMAGES = torch.rand(4, 3, 24, 20, generator=torch.Generator().manual_seed(0))
NEUTRAL = [torch.ones(4), torch.ones(4), torch.ones(4), torch.zeros(4)]


@pytest.mark.parametrize(
    ("number", "function", "values"),
    [
        (0, peer.adjust_brightness, [0.2, 0.9, 1.4, 1.8]),
        (1, peer.adjust_contrast, [0.2, 0.9, 1.4, 1.8]),
        (2, peer.adjust_saturation, [0.2, 0.9, 1.4, 1.8]),
        (3, peer.adjust_hue, [-0.45, -0.1, 0.15, 0.5]),
    ],
)
def test_colours_are_those_of_torchvision(number, function, values):
    factors = [*NEUTRAL]
    factors[number] = torch.tensor(values)
    expected = torch.stack([function(x, value) for x, value in zip(IMAGES, values, strict=True)])
    torch.testing.assert_close(adjusted(IMAGES, factors, [number]), expected, atol=2e-5, rtol=1e-4)


def test_hue_of_grey_images_stays():
    grey = grey_of(IMAGES).contiguous()
    torch.testing.assert_close(adjusted(grey, [*NEUTRAL[:3], torch.full((4,), 0.3)], [3]), grey)


def test_grey_is_torchvisions():
    torch.testing.assert_close(grey_of(IMAGES), peer.rgb_to_grayscale(IMAGES, num_output_channels=3))


def test_the_whole_image_is_a_crop_of_itself_and_can_be_mirrored():
    whole, none = torch.ones(4), torch.zeros(4)
    mirrored = torch.tensor([False, True, False, True])
    expected = torch.where(mirrored.view(-1, 1, 1, 1), IMAGES.flip(3), IMAGES)
    torch.testing.assert_close(cropped(IMAGES, none, none, whole, whole, mirrored), expected, atol=1e-5, rtol=1e-4)


def test_a_quarter_is_cut_and_enlarged():
    half, low = torch.full((4,), 0.5), torch.ones(4)
    still = torch.zeros(4, dtype=torch.bool)
    expected = peer.resized_crop(IMAGES, 12, 0, 12, 10, [24, 20], antialias=False)
    found = cropped(IMAGES, low, torch.zeros(4), half, half, still)  # at the bottom left
    # At the two inner borders torchvision repeats the last pixel of the part, and the view sees the image beyond it.
    torch.testing.assert_close(found[..., 1:, :-1], expected[..., 1:, :-1], atol=1e-5, rtol=1e-4)


def test_blur_is_torchvisions():
    deviations = torch.tensor([0.4, 0.7, 1.0, 1.3])
    reach = 4  # three of the largest
    expected = [peer.gaussian_blur(x, 2 * reach + 1, float(s)) for x, s in zip(IMAGES, deviations, strict=True)]
    torch.testing.assert_close(blurred(IMAGES, deviations), torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_views_are_pixels_and_come_from_the_generator():
    views = [ImageViews()(IMAGES, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    assert all(0 <= float(view.min()) <= float(view.max()) <= 1 + 1e-6 for view in views)


def test_nothing_switched_on_changes_nothing():
    still = ImageViews(crop=1.0, flip=False, colour=(0, 0, 0, 0), grey=0.0, blur=0.0)
    torch.testing.assert_close(still(IMAGES, torch.Generator()), IMAGES, atol=1e-5, rtol=1e-4)


def test_solarised_pixels_are_torchvisions():
    bright = ImageViews(crop=1.0, flip=False, colour=(0, 0, 0, 0), grey=0.0, blur=0.0, solarise=1.0)
    expected = peer.solarize(IMAGES, 0.5)
    torch.testing.assert_close(bright(IMAGES, torch.Generator()), expected, atol=1e-5, rtol=1e-4)


def test_views_of_another_size_show_at_most_the_largest_part():
    # The value of a pixel is its column, so the columns that are seen tell the width of the part.
    columns = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)
    small = ImageViews(crop=0.05, largest=0.4, size=(24, 20), flip=False, colour=(0, 0, 0, 0), grey=0.0, blur=0.0)
    views = small(columns, torch.Generator().manual_seed(0))
    assert views.shape == (200, 3, 24, 20)
    widths = views.amax((1, 2, 3)) - views.amin((1, 2, 3))
    assert float(widths.max()) < (0.4 * 4 / 3) ** 0.5
    assert float(widths.min()) > (0.05 * 3 / 4) ** 0.5 * 0.9
