# SPDX-License-Identifier: Apache-2.0
"""Random checkpoints in Hugging Face's format, and a reader for them. Needs numpy only."""
