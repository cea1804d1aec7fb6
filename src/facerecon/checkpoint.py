"""Weights as files: ``config.json`` and ``model.safetensors``, embedded, in a folder or on the Hub.

The only module that reads or writes weights. Loading is strict: every tensor must be there, with
its shape, and nothing else; the face layout the network was trained on must be the one in use.
Only safetensors are read, so a checkpoint cannot run code.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from facerecon.errors import (
    CheckpointInvalid,
    CheckpointNotFound,
    ConfigError,
    HubUnreachable,
    LayoutError,
)
from facerecon.network import FaceNetwork, NetworkConfig
from facerecon.uv import ICT_LAYOUT_EARLIER, ICT_LAYOUT_SHA256, UVLayout

__all__ = [
    "CONFIG_NAME",
    "EMBEDDED",
    "FORMAT",
    "GOLDEN_NAME",
    "WEIGHTS_NAME",
    "Checkpoint",
    "golden_difference",
    "push",
    "read_network",
    "resolve",
    "write_network",
]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
LAYOUT_NAME = "layout.safetensors"
GOLDEN_NAME = "golden.safetensors"
"""One input and its answer, beside packaged weights: see tools/make_golden.py."""
FORMAT = "facerecon-1"
EMBEDDED = ("fast",)
"""Names of the weights that come with the package; the first is the default."""

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """A network with all that is needed to use it.

    Attributes:
        network: The network.
        layout: The face layout of its position maps.
        margin: Side of its crop as a multiple of the larger side of the 68 landmarks' box.
        info: Facts about the weights, such as ``license`` and ``trained_on``.
    """

    network: FaceNetwork
    layout: UVLayout
    margin: float
    info: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def config(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        return {
            "format": FORMAT,
            "network": self.network.config.to_dict(),
            "crop": {"margin": self.margin},
            "layout": {"name": self.layout.name, "digest": self.layout.digest},
            "info": dict(self.info),
        }

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the checkpoint into a folder; each file is written aside and moved in place.

        Args:
            folder: Made when missing.
            dtype: Type of the stored kernels; as they are by default.
        """
        layout = self.layout if self.layout.name != "ict" else None
        write_network(self.network, self.config(), Path(folder), dtype, layout)

    @classmethod
    def load(cls, folder: str | Path) -> Checkpoint:
        """Read a checkpoint from a folder.

        Raises:
            CheckpointNotFound: A file is missing.
            CheckpointInvalid: A file is corrupted or foreign, or does not fit the other.
        """
        root = Path(folder)

        def build(config: dict[str, Any]) -> FaceNetwork:
            margin = config["crop"].get("margin") if isinstance(config["crop"], dict) else None
            if not isinstance(margin, int | float) or not 0.5 < margin < 10:
                raise ConfigError(f"crop.margin is {margin!r}, a factor is needed")
            if not isinstance(config["layout"], dict):
                raise ConfigError("layout must be an object")
            return FaceNetwork(NetworkConfig.from_dict(config["network"]))

        keys = {"format", "network", "crop", "layout", "info"}
        network, config = read_network(root, FORMAT, keys, build)
        layout, margin = _layout(root, config), float(config["crop"]["margin"])
        return cls(network, layout, margin, MappingProxyType(dict(config["info"])))


def write_network(
    network: nn.Module,
    config: Mapping[str, Any],
    folder: Path,
    dtype: torch.dtype | None = None,
    layout: UVLayout | None = None,
) -> None:
    """Write a network and its ``config.json``; each file is written aside and moved in place.

    Args:
        network: Its parameters and buffers are written.
        config: JSON-ready content of ``config.json``.
        folder: Made when missing.
        dtype: Type of the stored kernels; as they are by default.
        layout: Written beside them when given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in network.state_dict().items():
        kept = tensor.detach().cpu()
        # running statistics and pixel normalisation keep full precision: they are tiny, and a
        # variance may lie outside float16's range
        narrow = dtype is not None and tensor.is_floating_point() and _is_kernel(name, tensor)
        tensors[name] = (kept.to(dtype) if narrow else kept).contiguous()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        unfinished = Path(partial)
        save_file(tensors, unfinished / WEIGHTS_NAME, {"format": "pt"})
        text = json.dumps(config, indent=2) + "\n"
        (unfinished / CONFIG_NAME).write_text(text, encoding="utf-8")
        if layout is not None:
            layout.save(unfinished / LAYOUT_NAME)
        for file in sorted(unfinished.iterdir()):
            os.replace(file, folder / file.name)


def read_network(
    folder: Path, kind: str, keys: set[str], build: Callable[[dict[str, Any]], _Network]
) -> tuple[_Network, dict[str, Any]]:
    """Read a network that :func:`write_network` wrote.

    Args:
        folder: Holds ``config.json`` and ``model.safetensors``.
        kind: The format that ``config.json`` must name.
        keys: The keys that it must have; ``info`` is an object.
        build: Makes the network of a configuration; a ``ConfigError`` means that it is wrong.

    Returns:
        The network, ready for inference, and the content of ``config.json``.

    Raises:
        CheckpointNotFound: A file is missing.
        CheckpointInvalid: A file is corrupted or foreign, or does not fit the other.
    """
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise CheckpointNotFound(
                f"{folder} holds no {name}; a checkpoint is a folder with {CONFIG_NAME} and "
                f"{WEIGHTS_NAME}"
            )
    path = folder / CONFIG_NAME
    config = _read_config(path, kind, keys)
    try:
        with torch.device("meta"):
            network = build(config)
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointInvalid(f"{path}: {error}") from error
    _load_weights(network, folder / WEIGHTS_NAME)
    return network.eval(), config


def _is_kernel(name: str, tensor: torch.Tensor) -> bool:
    return tensor.dim() == 4 and name.endswith("weight")


def _read_config(path: Path, kind: str, keys: set[str]) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointInvalid(f"{path} is no JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != kind:
        found = config.get("format") if isinstance(config, dict) else None
        raise CheckpointInvalid(
            f"{path} is not a facerecon checkpoint: format is {found!r}, {kind!r} is needed"
        )
    if set(config) != keys:
        raise CheckpointInvalid(f"{path} has the keys {sorted(config)}, {sorted(keys)} are needed")
    if not isinstance(config["info"], dict):
        raise CheckpointInvalid(f"{path}: info must be an object")
    return config


def _layout(root: Path, config: dict[str, Any]) -> UVLayout:
    own = root / LAYOUT_NAME
    try:
        layout = UVLayout.load(own) if own.is_file() else UVLayout.ict()
    except LayoutError as error:
        raise CheckpointInvalid(f"{root}: {error}") from error
    wanted = config["layout"].get("digest")
    replaced = layout.digest == ICT_LAYOUT_SHA256 and wanted in ICT_LAYOUT_EARLIER
    if layout.digest != wanted and not replaced:
        raise CheckpointInvalid(
            f"{root}: the weights belong to the face layout {wanted}, this facerecon has "
            f"{layout.digest}: use the version of facerecon they were made with"
        )
    return layout


def _load_weights(network: nn.Module, path: Path) -> None:
    """Fill a network on the meta device, strictly, in float32."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointInvalid(f"{path} is damaged or no safetensors file: {error}") from error
    expected = network.state_dict()
    missing, extra = set(expected) - set(tensors), set(tensors) - set(expected)
    if missing or extra:
        raise CheckpointInvalid(
            f"{path} does not fit its {CONFIG_NAME}: {len(missing)} tensors are missing "
            f"({_some(missing)}), {len(extra)} are unknown ({_some(extra)})"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointInvalid(
                f"{path}: {name} is {tuple(tensor.shape)}, {tuple(expected[name].shape)} is needed"
            )
        if tensor.is_floating_point():
            tensors[name] = tensor.float()
            if not torch.isfinite(tensors[name]).all():
                raise CheckpointInvalid(f"{path}: {name} holds NaN or infinite values")
    network.load_state_dict(tensors, strict=True, assign=True)


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) or "none"


def golden_difference(folder: str | Path, network: FaceNetwork) -> float | None:
    """How far a network's answer is from the one stored beside its weights.

    Args:
        folder: Of the weights.
        network: Made from them, on any device and of any type.

    Returns:
        The largest difference, in crop sides; None where no answer is stored.
    """
    path = Path(folder) / GOLDEN_NAME
    if not path.is_file():
        return None
    golden = load_file(path)
    with torch.inference_mode():
        answer = network(golden["pixels"].to(network.pixel_mean.device))
    return float((answer.float().cpu() - golden["answer"]).abs().max())


def resolve(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of a checkpoint, fetched from the Hub where it must be.

    Args:
        name_or_path: None or a name in ``EMBEDDED`` for the packaged weights, which need no
            network access; a folder; or a Hub repository ``owner/name``.
        revision: Branch, tag or commit on the Hub.
        cache_dir: The Hub's cache; its usual place by default.
        token: Hub access token.
        local_files_only: Use only what is in the cache.

    Raises:
        CheckpointNotFound: There is no such folder, repository, revision or file.
        HubUnreachable: The Hub did not answer and the files are not in the cache.
    """
    if name_or_path is None or name_or_path in EMBEDDED:
        assets = resources.files("facerecon") / "assets" / str(name_or_path or EMBEDDED[0])
        return Path(str(assets))
    path = Path(name_or_path)
    if path.is_dir():
        return path
    name = str(name_or_path)
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointNotFound(
            f"no weights at {name!r}: give None or one of {list(EMBEDDED)} for the packaged ones, "
            f"a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, or a Hub repository 'owner/name'"
        )
    return _from_hub(name, revision, cache_dir, token, local_files_only)


def _from_hub(
    repo: str,
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
    token: str | bool | None,
    local_files_only: bool,
) -> Path:
    import huggingface_hub
    from huggingface_hub import errors as hub_errors

    try:
        folder = huggingface_hub.snapshot_download(
            repo,
            revision=revision,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            token=token,
            local_files_only=local_files_only,
            allow_patterns=[CONFIG_NAME, WEIGHTS_NAME, LAYOUT_NAME],
        )
    except hub_errors.RepositoryNotFoundError as error:
        raise CheckpointNotFound(
            f"the Hub has no repository {repo!r}, or your token may not see it"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise CheckpointNotFound(f"{repo!r} has no revision {revision!r} on the Hub") from error
    except hub_errors.HFValidationError as error:
        raise CheckpointNotFound(f"{repo!r} is no Hub repository name: {error}") from error
    except (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled) as error:
        raise HubUnreachable(
            f"{repo!r} is not in the cache and the Hub was not reached; connect once, or pass a "
            "folder, or None for the packaged weights"
        ) from error
    except Exception as error:  # the client passes on its HTTP library's errors
        if isinstance(error, hub_errors.HfHubHTTPError | OSError) or _is_transport(error):
            raise HubUnreachable(f"fetching {repo!r} from the Hub failed: {error}") from error
        raise
    return Path(folder)


def _is_transport(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in {"httpx", "httpx2", "requests", "httpcore"}


def push(
    checkpoint: Checkpoint,
    repo: str,
    card: str,
    *,
    token: str | bool | None,
    private: bool,
    revision: str | None,
    commit_message: str,
) -> str:
    """Upload a checkpoint and its model card to a Hub repository, made when missing.

    Returns:
        The address of the commit.

    Raises:
        HubUnreachable: The Hub did not answer, or refused.
    """
    import huggingface_hub
    from huggingface_hub import errors as hub_errors

    api = huggingface_hub.HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(folder)
        (Path(folder) / "README.md").write_text(card, encoding="utf-8")
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repo, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo, folder_path=folder, revision=revision, commit_message=commit_message
            )
        except hub_errors.HFValidationError as error:
            raise CheckpointNotFound(f"{repo!r} is no Hub repository name: {error}") from error
        except Exception as error:  # the client passes on its HTTP library's errors
            if isinstance(error, hub_errors.HfHubHTTPError | OSError) or _is_transport(error):
                raise HubUnreachable(f"uploading to {repo!r} failed: {error}") from error
            raise
    return str(commit.commit_url)
