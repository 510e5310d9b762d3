"""CoReFusion: contrastive regularized fusion for guided thermal super-resolution (PBVS workshop at CVPR 2023)."""
