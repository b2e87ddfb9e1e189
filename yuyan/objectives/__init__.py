"""What models are asked to do, one file each; the union below is what a config may choose from."""

from yuyan.objectives.base import Batch, Loss, Objective, token_loss
from yuyan.objectives.next_token import NextToken

ObjectiveConfig = NextToken

__all__ = ["Batch", "Loss", "NextToken", "Objective", "ObjectiveConfig", "token_loss"]
