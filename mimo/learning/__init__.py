"""From pictures to weights: datasets, blur synthesis and training."""
