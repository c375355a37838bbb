"""From a config to a module: the class it names, built without weights or their initialisation."""

from __future__ import annotations

import difflib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import nn
from transformers.integrations import moe
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from graphs.errors import GraphError
from graphs.sources.hf.inputs import parts
from graphs.sources.hf.kernels import kept_whole


def config_of(spec: str, text: str) -> Any:
    """The config object of a config.json."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise GraphError(f"the config of {spec} is no JSON: {error}; give a config.json") from error
    kind = data.get("model_type") if isinstance(data, dict) else None
    if kind not in CONFIG_MAPPING:
        near = difflib.get_close_matches(str(kind), list(CONFIG_MAPPING.keys()), n=3)
        more = f"; did you mean {', '.join(near)}?" if near else ""
        own = (
            ", and code of the model's own is not run"
            if isinstance(data, dict) and "auto_map" in data
            else ""
        )
        raise GraphError(
            f"model_type {kind!r} of {spec} is unknown to transformers {transformers.__version__}{own}{more}"
        )
    with quiet():
        try:
            return CONFIG_MAPPING[kind].from_dict(data)
        except Exception as error:  # configs check themselves as they like
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise GraphError(f"the config of {spec} is refused by transformers: {first}") from error


def model_class(config: Any) -> Any:
    """The class that the config names as its architecture, else one that generates, else the bare model."""
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if found is not None:
            return found
    kind = config.model_type
    if config.is_encoder_decoder and kind in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(config)]
    generates = kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if generates and kind not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return auto.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if type(config) not in auto.MODEL_MAPPING:
        raise GraphError(
            f"transformers has no model for model_type {kind!r} alone; name its class in 'architectures'"
        )
    found = auto.MODEL_MAPPING[type(config)]
    return found[0] if isinstance(found, tuple | list) else found


def dtype_of(config: Any) -> torch.dtype:
    """The dtype the config names, float32 otherwise."""
    dtype = config.dtype
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return dtype if isinstance(dtype, torch.dtype) and dtype.is_floating_point else torch.float32


def build(config: Any, *, caching: bool = False) -> nn.Module:
    """The module of the config; without `caching` it keeps no keys and values beside its output."""
    if not caching:
        for one in (config, *parts(config)):
            if hasattr(one, "use_cache"):
                one.use_cache = False
    module: nn.Module = model_class(config)._from_config(config, dtype=dtype_of(config))
    for one in (config, *parts(config)):
        if one._experts_implementation == "eager":  # one by one, as data tells
            one._experts_implementation_internal = "grouped_mm"
    return module


@contextmanager
def quiet() -> Iterator[None]:
    """While a model is built and run: no initial values, no checks of tensor values, no chatter."""
    key = "TRANSFORMERS_DISABLE_TORCH_CHECK"
    before, verbosity = os.environ.get(key), transformers.logging.get_verbosity()
    initialise = transformers.PreTrainedModel.initialize_weights
    transformers.PreTrainedModel.initialize_weights = lambda *_, **__: None
    grouped, moe._can_use_grouped_mm = moe._can_use_grouped_mm, lambda *_: False  # else bfloat16 only
    transformers.logging.set_verbosity_error()
    os.environ[key] = "1"
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        with warnings.catch_warnings(), kept_whole():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.PreTrainedModel.initialize_weights = initialise
        moe._can_use_grouped_mm = grouped
        torch.distributions.Distribution.set_default_validate_args(__debug__)  # as torch has it
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before
