"""EdgeTAM (Zhou et al., CVPR 2025): SAM 2's prompts and sessions for machines without a GPU."""
