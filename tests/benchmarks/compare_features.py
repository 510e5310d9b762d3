"""What the shipped feature network has learned: `python tests/benchmarks/compare_features.py`.

A linear map of the features of all stages, enlarged to the size of the image, is trained on simulated scenes to tell
the parts of the scene and the temperature of each pixel, for the shipped weights, the same network with random weights,
the filters of `RandomFeatureTerm` and the pixel values themselves. What is printed is measured on other scenes of a
data seed that the network was not trained on.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from lit_thermal.blocks.perceptual_terms import RandomFeatureTerm
from lit_thermal.data.datamodules.simulated_truth import SCENE_CLASSES, SimulatedTruth
from lit_thermal.methods.thermal_features.module import IGNORED, temperature_levels
from lit_thermal.thermal_features import ThermalFeatureNetwork, thermal_features

LEVELS = 8
Features = Callable[[Tensor], list[Tensor]]


def filters() -> Features:
    """The features of the untrained filters, level by level."""
    term = RandomFeatureTerm()

    def of(image: Tensor) -> list[Tensor]:
        found, x = [], 2 * image - 1
        for level in term._network.on(x):
            x = level(x)
            found.append(x)
        return found

    return of


def untrained() -> Features:
    """The network with random weights."""
    torch.manual_seed(0)
    network = ThermalFeatureNetwork().eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return network


@torch.no_grad()
def sampled(features: Features, data: list[dict], pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, C), parts (N,) and temperatures (N,) of pixels drawn from each image."""
    generator = torch.Generator().manual_seed(0)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for item in data:
        image = item["hr"][None].clamp(0, 1)
        stages = [F.interpolate(x, image.shape[-2:], mode="bilinear") for x in (image, *features(image))]
        places = torch.randint(image.numel(), (pixels,), generator=generator)
        levels = temperature_levels(item["kelvin"][None], LEVELS)
        x = torch.cat(stages, 1).flatten(2)[0][:, places].T
        found.append((x, item["masks"].flatten()[places], levels.flatten()[places]))
    x, parts, levels = (torch.cat(values) for values in zip(*found, strict=True))
    return x, parts, levels


def probed(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int) -> tuple[float, float]:
    """Accuracy and mean intersection over union of a linear classifier, trained by cross entropy."""
    (x, y), (held, truth) = train, test
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x, held = (x - mean) / deviation, (held - mean) / deviation
    torch.manual_seed(0)
    linear = nn.Linear(x.shape[1], classes)
    steps = 1500
    optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        some = torch.randint(len(x), (1024,))
        optimizer.zero_grad()
        F.cross_entropy(linear(x[some]), y[some], ignore_index=IGNORED).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = linear(held).argmax(1)
    accuracy = multiclass_accuracy(found, truth, classes, average="micro", ignore_index=IGNORED)
    return accuracy.item(), multiclass_jaccard_index(found, truth, classes, ignore_index=IGNORED).item()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=101, help="data seed; the network was trained on 0")
    parser.add_argument("--images", type=int, default=64, help="scenes to train the linear maps on, and to test on")
    parser.add_argument("--weights", default="", help="weights of the feature network; by default the shipped ones")
    options = parser.parse_args()
    data = SimulatedTruth(size=128, train_images=options.images, test_images=options.images, seed=options.seed)
    data.num_workers, data.augment = 0, False
    data.setup("fit")
    data.setup("test")
    train = [data.train_dataloader().dataset[n] for n in range(options.images)]
    test = [data.test_dataloader()[0].dataset[n] for n in range(options.images)]
    network = thermal_features(options.weights) if options.weights else thermal_features()
    rows: dict[str, Features] = {
        "shipped network": network,
        "same network, random weights": untrained(),
        "RandomFeatureTerm": filters(),
        "pixel value": lambda image: [],
    }
    print("| features | channels | accuracy of parts | mIoU of parts | accuracy of temperature |")
    print("| --- | --- | --- | --- | --- |")
    for name, features in rows.items():
        x, parts, levels = sampled(features, train, 1500)
        held, true_parts, true_levels = sampled(features, test, 4000)
        accuracy, miou = probed((x, parts), (held, true_parts), len(SCENE_CLASSES))
        warmth, _ = probed((x, levels), (held, true_levels), LEVELS)
        print(f"| {name} | {x.shape[1]} | {accuracy:.3f} | {miou:.3f} | {warmth:.3f} |", flush=True)


if __name__ == "__main__":
    main()
