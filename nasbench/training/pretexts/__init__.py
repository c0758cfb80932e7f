"""Learning without labels: what trains a host on a pretext, and what is measured on it.

The way of the data:

    batch x ── views ──> view 1, view 2 ── Encoder ──> features ── heads ──> outputs ── loss
               pretext                     host + plan             pretext             pretext

    validation x ────────────────────────── Encoder (pooled) ──> features ──> kNN, probe, spread, rank

- A *pretext* (`nasbench.ops.pretext.Pretext`, one file in modules/pretext) brings views, heads and a loss. It declares
  which form of features it needs of a host, and what its data is: images or series.
- An `Encoder` is the host with its plan. It runs the whole host and returns the features at one place of it: before the
  classifier, or after the last stage.
- A `Learner` is what the training loop trains: encoder and pretext together. Teachers, queues and banks are submodules
  and buffers of the pretext, so its state dict is the whole state of the training. Views depend on (seed, step) alone.
- A `PretextTask` is what a search sees in place of the user's task: the same inputs and splits, other metrics. Its
  models are those of the user's task. The pretext belongs to the training loop alone, so costs, latency, stored weights
  and exported models are those of the host.

Labels are read by the metrics alone, or by a pretext that says so (`Pretext.reads`).
"""

from nasbench.training.pretexts.encoder import HostEncoder, pooled_encoder
from nasbench.training.pretexts.fitting import check_host, hosts_for
from nasbench.training.pretexts.learner import Learner
from nasbench.training.pretexts.pretext_task import PretextTask
from nasbench.training.pretexts.validation import validate_features

__all__ = [
    "HostEncoder", "Learner", "PretextTask", "check_host", "hosts_for", "pooled_encoder", "validate_features",
]  # fmt: skip
