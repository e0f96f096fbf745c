"""What turns pixels or points into vectors: image backbones, virtual views, distillation."""
