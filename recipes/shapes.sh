#!/usr/bin/env bash
# A DETR with a ResNet-18 from scratch on generated pictures.
set -euo pipefail
cd "$(dirname "$0")/.."
