"""Lets torchvision import beside a torch build that its compiled operators do not fit.

torchvision 0.28 registers fake kernels for `torchvision::nms` and `torchvision::qnms` while it is imported.
Where its C++ library could not be loaded these two do not exist, and the import fails. The published wheel is
built for CUDA, so beside a CPU build of torch nothing that imports torchvision works, timm and transformers
included. This module runs at the start of each interpreter of the development environment, waits for that one
import and declares the two operators if they are missing. It is no part of hwsim and not installed with it.
"""

import sys

_WATCHED = "torchvision._meta_registrations"  # imported right after torchvision has tried its C++ library
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_keep_alive = []  # a torch.library.Library takes its operators with it when it is collected


class _DeclareMissingOperators:
    """A finder that finds nothing: it acts just before the watched module is looked for."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == _WATCHED:
            sys.meta_path.remove(_DeclareMissingOperators)
            if not sys.modules["torchvision.extension"]._has_ops():
                _declare(sys.modules["torch"])
        return None


def _declare(torch):
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(operator + _SIGNATURE)
    _keep_alive.append(library)


sys.meta_path.insert(0, _DeclareMissingOperators)
