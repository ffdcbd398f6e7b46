"""Exit criteria: one file each behind one interface.

To add one, see docs/adding-a-criterion.md.
"""

from __future__ import annotations

from offramp.passes.exits.criteria._base import Criterion
from offramp.passes.exits.criteria.entropy import Entropy
from offramp.passes.exits.criteria.gate import LearnedGate
from offramp.passes.exits.criteria.margin import Margin
from offramp.passes.exits.criteria.max_softmax import MaxSoftmax
from offramp.passes.exits.criteria.patience import Patience

CRITERIA: tuple[Criterion, ...] = (MaxSoftmax(), Margin(), Entropy(), Patience(), LearnedGate())
"""All criteria that the search tries, before they are fitted."""

__all__ = ["CRITERIA", "Criterion", "Entropy", "LearnedGate", "Margin", "MaxSoftmax", "Patience"]
