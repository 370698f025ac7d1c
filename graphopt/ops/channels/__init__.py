"""How channels flow through operators: the ``channels`` column of the operator rows.

``layout`` holds labels along factored axes and moves them, ``ties`` the steps that rules are made of, ``rule`` what a rule may
ask and say. The rules themselves, by manner: ``mixing``, ``recurrent``, ``pointwise``, ``axes``, ``movement``, ``sizes``;
``resizing`` mends constants.
"""

from graphopt.ops.channels import axes, einsum, mixing, movement, pointwise, recurrent, resizing, sizes
from graphopt.ops.channels.layout import Field, Labels, Layout
from graphopt.ops.channels.rule import Average, ChannelRule, Mixer, Product, Resizing, View

CONV = ChannelRule(mixing.conv, mixing.resize_groups)
CONV_TRANSPOSE = ChannelRule(mixing.conv_transpose, mixing.resize_groups)
GEMM = ChannelRule(mixing.gemm)
MATMUL = ChannelRule(mixing.matmul)
EINSUM = ChannelRule(einsum.einsum)

RECURRENT = ChannelRule(recurrent.recurrent, recurrent.resize_hidden)

UNARY = ChannelRule(pointwise.unary)
UNARY_ZERO = ChannelRule(pointwise.unary, zero=True)
ELEMENTWISE = ChannelRule(pointwise.elementwise)
PER_CHANNEL = ChannelRule(pointwise.per_channel)
SPATIAL = ChannelRule(pointwise.spatial, zero=True)
GLOBAL_POOL = ChannelRule(pointwise.global_pool, zero=True)
QUANTIZER = ChannelRule(pointwise.quantizer)
OPAQUE = ChannelRule(pointwise.opaque)

SOFTMAX = ChannelRule(axes.softmax)
NORMALISE_FROM = ChannelRule(axes.normalise_from)
OVER_CHANNELS = ChannelRule(axes.over_channels)
ALONG_AXIS = ChannelRule(axes.along_axis)
REDUCTION = ChannelRule(axes.reduction, sizes=(1,))

TRANSPOSE = ChannelRule(movement.transpose, zero=True)
RESHAPE = ChannelRule(movement.reshape, resizing.reshape, zero=True, sizes=(1,))
FLATTEN = ChannelRule(movement.flatten, zero=True)
SQUEEZE = ChannelRule(movement.squeeze, resizing.squeeze, zero=True)
UNSQUEEZE = ChannelRule(movement.unsqueeze, zero=True)
CONCAT = ChannelRule(movement.concat, zero=True)
SPLIT = ChannelRule(movement.split, resizing.split, zero=True, sizes=(1,))
SLICE = ChannelRule(movement.slice_, resizing.slice_, zero=True, sizes=(1, 2))
GATHER = ChannelRule(movement.gather, resizing.gather, zero=True)
PAD = ChannelRule(movement.pad)
TILE = ChannelRule(movement.tile, zero=True)
EXPAND = ChannelRule(movement.expand, resizing.expand, zero=True, sizes=(1,))
DEPTH_TO_SPACE = ChannelRule(movement.depth_to_space, zero=True)

SOURCE = ChannelRule(sizes.source, sizes=(0,))
RESAMPLE = ChannelRule(sizes.resample, sizes.resize_sizes, zero=True, sizes=(3,))

__all__ = ["Average", "ChannelRule", "Field", "Labels", "Layout", "Mixer", "Product", "Resizing", "View"]
