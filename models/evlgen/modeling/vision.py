"""The frozen vision tower: any timm architecture behind one small interface.

A tower turns frames into tokens. In a ViT the temporal module sits in every block between attention and MLP
(arXiv 2310.03291, section 3.3), so frames meet inside the tower, and layers that are not linear follow. A CNN has no
such place. An EfficientNet has one that is like it: in front of its head, a 1x1 convolution with an activation. In any
other CNN the module works on the output tokens, where the mean over frames and a LayerNorm undo most of what it does.

What comes before the frames meet sees every frame alone, and can be computed once and kept (`encode`); an
EfficientNet's head is cheap, its input a quarter of its output, so the head is always left for later (`contextualize`).

Shapes: B batch, F frames, N tokens, D width, C width of features, S image side in pixels.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.models.efficientnet import EfficientNet
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from evlgen.configuration import TemporalConfig, VisionConfig
from evlgen.errors import EvlgenError, WeightsError
from evlgen.modeling.layouts import LAYOUTS, resample_positions
from evlgen.modeling.recomputing import recomputed
from evlgen.modeling.temporal import TemporalContextualization
from evlgen.modeling.transformers_opening import reason_of
from evlgen.tower_sizes import as_tokens

PRE_NORM_BLOCKS = frozenset({"Block", "EvaBlock"})
"""timm's blocks that are x + attention(norm1(x)), then x + mlp(norm2(x))."""
FRAMES_PER_THREAD = 2
"""Frames that go through the tower together on a CPU: what their layers give stays in its caches."""


class TemporalBlock(nn.Module):
    """A timm pre-norm ViT block with temporal contextualization between its attention and its MLP."""

    def __init__(self, block: Any, temporal: TemporalContextualization) -> None:
        super().__init__()
        self.block, self.temporal = block, temporal
        self.frames = 1

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x: (B * F, N, D)."""
        block = self.block
        x = x + _branch(block, "1", block.attn(block.norm1(x), *args, **kwargs))
        own = self.temporal.alpha.dtype
        # the module's parameters stay float32, its matrix products are in the precision of the tower
        with nullcontext() if x.dtype == own else torch.autocast(x.device.type, x.dtype):
            mixed = self.temporal(x.reshape(-1, self.frames, *x.shape[1:]).to(own))
        x = mixed.flatten(0, 1).to(x.dtype)
        y: Tensor = x + _branch(block, "2", block.mlp(block.norm2(x)))
        return y


def _branch(block: Any, which: str, y: Tensor) -> Tensor:
    """Layer scale of either spelling (timm's Block has ls1/ls2, its EvaBlock gamma_1/gamma_2)."""
    gamma = getattr(block, f"gamma_{which}", None)
    scaled: Tensor = getattr(block, f"ls{which}", nn.Identity())(y) if gamma is None else y * gamma
    return scaled


class VisionTower(nn.Module):
    """Frames in, visual tokens out.

    Args:
        config: architecture and sizes; `config.tokens` and `config.width` are checked against the real ones.
        temporal: give it to build the temporal modules (one per ViT block, or one in a CNN).
        classes: of its classifier, which the weight file holds as well; 0: it is left out.

    Raises:
        EvlgenError: the architecture is unknown to timm, or gives other token counts than configured.
    """

    def __init__(self, config: VisionConfig, temporal: TemporalConfig | None = None, classes: int = 0) -> None:
        super().__init__()
        self.config = config
        self.classifier = nn.Linear(config.width, classes).requires_grad_(False) if classes else None
        try:
            self.trunk: Any = timm.create_model(config.name, pretrained=False, num_classes=0, **config.arguments)
        except Exception as error:  # arguments are the user's, and timm takes many
            raise EvlgenError(
                f"vision.name {config.name!r}: {reason_of(error)}", "timm.list_models() names what there is"
            ) from error
        if getattr(self.trunk, "attn_pool", None) is not None:
            self.trunk.attn_pool = None  # it pools tokens, which never runs here: its weights are not needed
        self.trunk.requires_grad_(False).eval()
        self._check_size()
        self.has_head = isinstance(self.trunk, EfficientNet) and isinstance(self.trunk.conv_head, nn.Conv2d)
        self.blocks: list[TemporalBlock] = []
        self.after: TemporalContextualization | None = None
        if temporal is not None:
            self._attach(temporal)

    def _check_size(self) -> None:
        """What is known without running it: the input size of towers with patches, and the tokens of ViTs."""
        config = self.config
        patches: Any = getattr(self.trunk, "patch_embed", None)
        built_for = getattr(patches, "img_size", None)
        side = config.image_size
        if getattr(patches, "strict_img_size", False) and built_for not in (None, (side, side)):
            raise EvlgenError(
                f"vision.image_size is {side}, but {config.name} is built for {' x '.join(map(str, built_for))} pixels",
                f"set vision.arguments.img_size to {side}, or vision.image_size to what it is built for",
            )
        if isinstance(self.trunk, VisionTransformer | Eva) and built_for is not None:
            self._check_tokens(patches.num_patches + self.trunk.num_prefix_tokens, self.trunk.embed_dim)

    def _check_tokens(self, tokens: int, width: int) -> None:
        config = self.config
        if (tokens, width) != (config.tokens, config.width):
            raise EvlgenError(
                f"vision {config.name} at {config.image_size} px gives {tokens} tokens of width "
                f"{width}, configured were {config.tokens} of {config.width}",
                "set vision.tokens and vision.width to what the tower gives",
            )

    def _attach(self, temporal: TemporalConfig) -> None:
        if self.feature_width % temporal.heads:
            raise EvlgenError(
                f"vision {self.config.name} has {self.feature_width} channels where frames meet, which temporal.heads "
                f"{temporal.heads} does not divide",
                "set temporal.heads to a divisor",
            )

        def module() -> TemporalContextualization:
            return TemporalContextualization(self.feature_width, temporal.width, temporal.heads)

        if hasattr(self.trunk, "blocks") and hasattr(self.trunk.blocks[0], "attn"):
            odd = {type(block).__name__ for block in self.trunk.blocks} - PRE_NORM_BLOCKS
            if odd:
                raise EvlgenError(
                    f"vision {self.config.name} has blocks of another kind ({', '.join(odd)}): the temporal module "
                    "has no place between attention and MLP",
                    f"blocks that work: {', '.join(sorted(PRE_NORM_BLOCKS))}; or use fusion mean or concat",
                )
            wrapped = [TemporalBlock(block, module()) for block in self.trunk.blocks]
            self.trunk.blocks = nn.ModuleList(wrapped) if not self._sequential() else nn.Sequential(*wrapped)
            self.blocks = wrapped
        else:
            self.after = module()

    def _sequential(self) -> bool:
        return isinstance(self.trunk.blocks, nn.Sequential)

    @property
    def feature_width(self) -> int:
        """C: channels of what `encode` gives; D unless a head is still to come."""
        return int(self.trunk.conv_head.in_channels) if self.has_head else self.config.width

    @property
    def prefix_tokens(self) -> int:
        """How many of the N tokens stand in front of the patches: class token and registers of a ViT."""
        return int(getattr(self.trunk, "num_prefix_tokens", 0))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the patches, which are the other tokens, row by row; pictures are square."""
        side = math.isqrt(self.config.tokens - self.prefix_tokens)
        return side, side

    @property
    def cacheable(self) -> bool:
        """Whether `encode` sees every frame alone, so that its output can be computed once and kept."""
        return not self.blocks

    def recompute_blocks(self) -> None:
        """Keep only the input of each block that has a temporal module for the backward pass: less memory."""
        for block in self.blocks:
            block.forward = partial(recomputed, block.forward)  # type: ignore[method-assign]

    def train(self, mode: bool = True) -> VisionTower:
        """The tower is frozen: its statistics and dropout always stay in evaluation mode."""
        super().train(False)
        return self

    def encode(self, pixels_BFCSS: Tensor) -> Tensor:
        """Features (B, F, N, C) of normalised frames (B, F, 3, S, S): all that comes before an EfficientNet's head."""
        batch, frames = pixels_BFCSS.shape[:2]
        for block in self.blocks:
            block.frames = frames
        x = pixels_BFCSS.flatten(0, 1)
        at_once = max(len(x), 1)
        if x.device.type == "cpu" and not self.blocks:
            x = x.contiguous(memory_format=torch.channels_last)
            at_once = FRAMES_PER_THREAD * torch.get_num_threads()
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(self.blocks)):
            features = torch.cat([self._frame_tokens(part) for part in torch.split(x, at_once)])
        width = self.trunk.conv_head.out_channels if self.has_head else features.shape[2]
        self._check_tokens(features.shape[1], width)
        return features.reshape(batch, frames, *features.shape[1:])

    def _frame_tokens(self, x: Tensor) -> Tensor:
        """(N', N, C) of N' frames (N', 3, S, S)."""
        trunk = self.trunk
        y = trunk.blocks(trunk.bn1(trunk.conv_stem(x))) if self.has_head else trunk.forward_features(x)
        tokens: Tensor = as_tokens(trunk, y)
        return tokens

    def contextualize(self, features_BFNC: Tensor) -> Tensor:
        """Tokens (B, F, N, D) of features: a CNN's temporal module, then an EfficientNet's head."""
        if self.after is not None:
            features_BFNC = self.after(features_BFNC)
        if not self.has_head:
            return features_BFNC
        batch, frames, tokens, width = features_BFNC.shape
        side = math.isqrt(tokens)  # pictures are square
        x = features_BFNC.reshape(-1, side, side, width).permute(0, 3, 1, 2)  # in memory, channels come last
        y = self.trunk.bn2(self.trunk.conv_head(x.to(self.trunk.conv_head.weight.dtype)))
        y = y.permute(0, 2, 3, 1).reshape(batch, frames, tokens, -1)
        tokens_BFND: Tensor = y.to(features_BFNC.dtype)
        return tokens_BFND

    def class_probabilities(self, tokens_BFND: Tensor) -> Tensor:
        """(B, V): what the tower's own classifier says of output tokens, averaged over frames."""
        assert self.classifier is not None
        y = tokens_BFND.flatten(0, 1).to(self.classifier.weight.dtype)
        if not isinstance(self.trunk, VisionTransformer | Eva):  # a CNN pools its feature map
            side = math.isqrt(y.shape[1])
            y = y.transpose(1, 2).reshape(len(y), -1, side, side)
        logits = self.classifier(self.trunk.forward_head(y, pre_logits=True))
        probabilities: Tensor = logits.float().softmax(-1).unflatten(0, tokens_BFND.shape[:2]).mean(1)
        return probabilities

    def forward(self, pixels_BFCSS: Tensor) -> Tensor:
        """Contextualized tokens (B, F, N, D)."""
        return self.contextualize(self.encode(pixels_BFCSS))

    def frozen_tensors(self) -> dict[str, Tensor]:
        """The trunk's own tensors under timm's names, without temporal modules."""
        return {
            k.replace(".block.", ".", 1) if self.blocks else k: v
            for k, v in self.trunk.state_dict().items()
            if ".temporal." not in k
        }

    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        """Fill the trunk from a weight file in the configured layout.

        Positions that were learned at another image size are resampled; tensors that the trunk does not have are left.

        Raises:
            WeightsError: names or shapes do not fit.
        """
        own = self.frozen_tensors()
        if self.classifier is not None:  # the last of the file, under the name that timm has for it
            name = (self.trunk.pretrained_cfg or {}).get("classifier") or "classifier"
            own |= {f"{name}.{part}": value for part, value in self.classifier.state_dict().items()}
        if self.config.layout == "ordered":
            given = dict(zip(own, tensors.values(), strict=False))
        else:
            given = self._resampled(LAYOUTS[self.config.layout](tensors), own)
        bad = [k for k, v in own.items() if k not in given or given[k].shape != v.shape]
        if bad:
            raise WeightsError(
                f"vision weights do not fit {self.config.name}: {len(bad)} of {len(own)} tensors missing or of "
                f"another shape, first {bad[0]!r}"
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(given[name])

    def _resampled(self, given: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
        """With learned positions for this tower's image size, as the library whose layout it is does it."""
        positions = given.get("pos_embed")
        if "pos_embed" not in own or positions is None or positions.dim() != 3:
            return given
        prefix = 0 if getattr(self.trunk, "no_embed_class", False) else self.trunk.num_prefix_tokens
        smooth = self.config.layout == "timm" or "reg_token" in own
        tokens = own["pos_embed"].shape[1]
        return given | {"pos_embed": resample_positions(positions, tokens, prefix, antialias=smooth)}

    def freeze(self, dtype: torch.dtype) -> None:
        """Make the frozen trunk cheap: fold BatchNorm and padding into the convolutions, then change precision.

        Same function as before up to rounding. Temporal modules inside a ViT are trained, they stay float32.
        """
        _fold_batch_norms(self.trunk)
        _fold_padding(self.trunk)
        self.trunk.to(dtype=dtype, memory_format=torch.channels_last)
        if self.classifier is not None:
            self.classifier.to(dtype)
        for block in self.blocks:
            block.temporal.float()


def _fold_batch_norms(module: nn.Module) -> None:
    """timm writes `conv_x` and `bn_x` as neighbours, BatchNorm with its activation inside (BatchNormAct2d)."""
    children = list(module.named_children())
    for (conv_name, conv), (bn_name, bn) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, bn))
            drop, act = getattr(bn, "drop", nn.Identity()), getattr(bn, "act", nn.Identity())
            setattr(module, bn_name, nn.Sequential(drop, act))
    for _, child in module.named_children():
        _fold_batch_norms(child)


class StridedConv(nn.Conv2d):
    """A convolution of stride 2 that pads as TensorFlow does, without a padded copy of its input.

    Where the input is even, TensorFlow pads one more behind than in front. A kernel with one more row and column of
    zeros in front gives the same with equal padding; where the input is odd, padding is equal by itself.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        kernel = conv.kernel_size[0]
        shape = {"kernel_size": kernel + 1, "stride": 2, "padding": kernel // 2, "groups": conv.groups}
        super().__init__(conv.in_channels, conv.out_channels, bias=False, device="meta", **shape)
        self.weight = nn.Parameter(nn.functional.pad(conv.weight.detach(), (1, 0, 1, 0)), requires_grad=False)
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / 2, W / 2), rounded up."""
        kernel = self.weight[..., x.shape[-2] % 2 :, x.shape[-1] % 2 :]
        return nn.functional.conv2d(x, kernel, self.bias, self.stride, self.padding, groups=self.groups)


def _fold_padding(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Conv2dSame):
            rows, columns = child.kernel_size
            if rows == columns and rows % 2 and child.stride == (2, 2) and child.dilation == (1, 1):
                setattr(module, name, StridedConv(child))
        else:
            _fold_padding(child)
