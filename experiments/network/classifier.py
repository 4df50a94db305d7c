"""A classifier from scratch: one recipe for whatever network the study trains.

Letters: B images.
"""

from collections.abc import Callable

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from experiments.network.judges import MEAN, STD
from experiments.network.training import SHIFT, shifted

SMOOTHING, RATE, DECAY = 0.1, 0.1, 5e-4
RECIPE = (
    f"SGD, Nesterov momentum 0.9, one cycle up to {RATE}, weight decay {DECAY}; mirrored, shifted "
    f"by up to {SHIFT} pixels, labels smoothed {SMOOTHING}"
)


class ClassifierTraining(pl.LightningModule):
    """Trains a classifier of normalized images: stochastic gradient descent, one cycle of the rate.

    Args:
        make: the network, with random weights.
        seed: of the weights and the shifts.

    References:
        Smith and Topin, Super-convergence (2019), for the cycle; Szegedy et al., Rethinking the
        Inception architecture for computer vision (2016), section 7, for the smoothed labels.
    """

    def __init__(self, make: Callable[[], nn.Module], seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = make().to(memory_format=torch.channels_last)
        self.normalize = Normalize(MEAN, STD)
        self.seed = seed

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        # Of the step alone, so that a training that goes on sees what it would have seen.
        draws = torch.Generator().manual_seed(self.seed * 1_000_000 + self.global_step)
        inputs: Tensor = self.normalize(shifted(images, draws))
        with torch.autocast(inputs.device.type, torch.bfloat16):
            logits = self.network(inputs.contiguous(memory_format=torch.channels_last))
        return nn.functional.cross_entropy(logits.float(), labels, label_smoothing=SMOOTHING)

    def on_train_epoch_end(self) -> None:
        print(f"epoch {self.current_epoch + 1} of {self.trainer.max_epochs}", flush=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(
            self.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=DECAY
        )
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
