"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("relclass", deadline=None)  # a busy machine is no failure
settings.load_profile("relclass")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a tiny random checkpoint of an architecture, once a session."""
    import torch
    from tiny_encoders import write_tiny_encoder

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("encoders")

    def folder_of(architecture: str) -> Path:
        folder = root / architecture
        return folder if folder.exists() else write_tiny_encoder(folder, architecture)

    return folder_of
